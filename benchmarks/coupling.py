"""Coupling beside Torch-Pruning, and what pruning buys in real time; ratios printed, JSON on request.

python -m benchmarks.coupling [--rounds 3] [--quick] [--out results/coupling.json]

Needs ``pip install torch-pruning`` (the peer, for this benchmark alone). Each measurement is a process of its
own; the processes take turns, and of several rounds the best counts, since disturbance only ever adds time.

groups: ResNet-50 and ViT-B/16 on one 224x224 image. "find" is trace + groups (ours) or dependency graph +
groups (the peer), the first call in a fresh process, and again the best of five more. "prune" removes half of
all prunable channels by L1: ours scores, chooses and shrinks; the peer's is its pruner's step.
scaling: seconds of trace + groups and equations of ResNet-18, 50 and 152, ViT-B/16, Swin-T and S, a U-Net, and decoders
like Llama of 32 and of 46 blocks. Equations are those walked. A body that is called several times counts once.
speed: ResNet-56 on CIFAR shapes, half and more of each block's first filters removed: forward and training
step, dense, masked and small, beside the small network's MAC speedup, and the same in PyTorch.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from benchmarks import rounds
from benchmarks.provenance import about

NETWORKS = ("resnet50", "vit_b16")
SCALES = (
    *("resnet18", "resnet50", "resnet152", "vit_b16"),
    *("swin_t", "swin_s", "unet", "llama_7b", "llama_46"),
)
RATIOS = (0.5, 0.7, 0.9)
BATCH, THREADS = 128, 2


def clock(function, times):
    """Seconds of each call."""
    out = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        out.append(time.perf_counter() - start)
    return out


def groups_ours(name):
    import jax
    import numpy as np

    from benchmarks.coupling_networks import ours
    from prune_jax.pruning import allocation
    from prune_jax.pruning.coupling import find_groups
    from prune_jax.pruning.criteria.table import CRITERIA, channel_scores
    from prune_jax.pruning.evidence import Evidence
    from prune_jax.pruning.surgery import shrink

    apply, shapes, x = ours(name)
    find = clock(lambda: find_groups(apply, shapes, x), 1)[0]

    def again():
        find_groups(lambda variables, x: apply(variables, x), shapes, x)  # another function: traced anew

    found = find_groups(apply, shapes, x)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: jax.numpy.asarray(rng.normal(size=s.shape).astype(s.dtype)), shapes)

    def prune():
        scores = channel_scores(CRITERIA["l1"], Evidence(variables, found))
        jax.block_until_ready(shrink(variables, found, allocation.uniform(found, scores, 0.5)))

    free = [group for group in found if group.frozen is None]
    return {
        "find_s": find,
        "find_again_s": min(clock(again, 5)),
        "prune_s": clock(prune, 1)[0],
        "groups": len(free),
        "channels": sum(group.size for group in free),
    }


def groups_peer(name):
    import torch
    import torch_pruning as tp

    from benchmarks.coupling_networks import peer

    torch.set_num_threads(THREADS)
    module, x = peer(name)
    head = next(
        m
        for m in reversed(list(module.modules()))
        if isinstance(m, torch.nn.Linear) and m.out_features == 1000
    )

    def find():
        graph = tp.DependencyGraph().build_dependency(module, example_inputs=x)
        return list(graph.get_all_groups(ignored_layers=[head]))

    start = time.perf_counter()
    found = find()
    first = time.perf_counter() - start
    again = min(clock(find, 5))
    heads = {m: m.num_heads for m in module.modules() if isinstance(m, torch.nn.MultiheadAttention)}
    pruner = tp.pruner.MagnitudePruner(
        module, x, importance=tp.importance.MagnitudeImportance(p=1), pruning_ratio=0.5, ignored_layers=[head],
        num_heads=heads,
    )  # fmt: skip
    return {"find_s": first, "find_again_s": again, "prune_s": clock(pruner.step, 1)[0], "groups": len(found)}


def scaling():
    from benchmarks.coupling_networks import ours
    from prune_jax.pruning.coupling import analyse

    def equations(body):
        return len(body.nodes) + sum(equations(inner) for node in body.nodes for inner in node.bodies)

    out = {}
    for name in SCALES:
        apply, shapes, x = ours(name)
        analysis = analyse(apply, shapes, x)
        seconds = min(clock(lambda: analyse(lambda v, x: apply(v, x), shapes, x), 5))  # noqa: B023
        count = equations(analysis.body)
        out[name] = {"equations": count, "seconds": seconds, "us_per_equation": 1e6 * seconds / count}
    return out


def speed_ours(kind, ratio):
    """Forward and training step of ResNet-56, dense, masked or small."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from prune_jax import models
    from prune_jax.pruning import allocation
    from prune_jax.pruning.cost import count
    from prune_jax.pruning.coupling import find_groups
    from prune_jax.pruning.criteria.table import CRITERIA, channel_scores
    from prune_jax.pruning.evidence import Evidence
    from prune_jax.pruning.masks import apply_mask, expand, hold
    from prune_jax.pruning.surgery import shrink

    network = models.functional(
        models.create("resnet56", num_classes=10, input_shape=(32, 32, 3), key=jax.random.key(0))
    )
    one = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    variables, sgd, macs = network.variables, optax.sgd(0.1, momentum=0.9), None
    if kind != "dense":
        groups = find_groups(network.apply, variables, one)
        scores = channel_scores(CRITERIA["l1"], Evidence(variables, groups))
        keep = allocation.uniform(groups, scores, ratio, models.info("resnet56").pruned)
        if kind == "masked":
            mask = expand(variables, groups, keep)
            variables, sgd = apply_mask(variables, mask), optax.chain(sgd, hold(mask["params"]))
        else:
            variables = shrink(variables, groups, keep)
            macs = (
                count(network.apply, network.variables, one).macs / count(network.apply, variables, one).macs
            )
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(BATCH, 32, 32, 3)).astype(np.float32))
    y = jnp.asarray(rng.integers(0, 10, BATCH))

    def loss(params, stats):
        logits, stats = network.apply_train({"params": params, "batch_stats": stats}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), stats

    @jax.jit
    def step(variables, state):
        grads, stats = jax.grad(loss, has_aux=True)(variables["params"], variables["batch_stats"])
        updates, state = sgd.update(grads, state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), "batch_stats": stats}, state

    forward = jax.jit(network.apply)
    state = sgd.init(variables["params"])

    def train():
        nonlocal variables, state
        variables, state = jax.block_until_ready(step(variables, state))

    train()  # compiles
    forward(variables, x).block_until_ready()
    return {
        "forward_s": statistics.median(clock(lambda: forward(variables, x).block_until_ready(), 5)),
        "train_s": statistics.median(clock(train, 5)),
        "mac_speedup": macs,
    }


def speed_peer(kind, ratio):
    import torch

    from benchmarks.peer_networks import resnet

    torch.set_num_threads(THREADS)
    net = resnet(56, channels=3, kept=1.0 if kind == "dense" else 1 - ratio)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,))

    def train():
        sgd.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        sgd.step()

    def forward():
        with torch.no_grad():
            net(x)

    train()
    train_s = statistics.median(clock(train, 5))
    net.eval()
    forward()
    return {"forward_s": statistics.median(clock(forward, 5)), "train_s": train_s}


def child(what, who, *rest):
    """One measurement, printed as JSON by a process of its own."""
    if what == "groups":
        found = groups_ours(*rest) if who == "ours" else groups_peer(*rest)
    elif what == "scaling":
        found = scaling()
    else:
        kind, ratio = rest[0], float(rest[1])
        found = speed_ours(kind, ratio) if who == "ours" else speed_peer(kind, ratio)
    print(json.dumps(found))


def cases(quick):
    found = [("groups", who, name) for name in NETWORKS for who in ("peer", "ours")]
    found.append(("scaling", "ours"))
    if not quick:
        found += [("speed", who, "dense", "0") for who in ("peer", "ours")]
        for ratio in map(str, RATIOS):
            found += [("speed", "peer", "small", ratio), ("speed", "ours", "small", ratio)]
            found.append(("speed", "ours", "masked", ratio))
    return found


def summary(best, quick):
    """The ratios that are quoted: ours over the peer's for groups, speedups for speed."""
    out = {}
    for name in NETWORKS:
        ours, peer = best["groups", "ours", name], best["groups", "peer", name]
        for what in ("find_s", "find_again_s", "prune_s"):
            out[f"{name}: our {what.removesuffix('_s')} / the peer's"] = ours[what] / peer[what]
    rows = best["scaling", "ours"]
    for name in SCALES:
        out[f"{name}: microseconds per equation"] = rows[name]["us_per_equation"]
    each = [rows[name]["us_per_equation"] for name in SCALES]
    out["hardest / easiest network: time per equation"] = max(each) / min(each)
    if quick:
        return out
    for ratio in map(str, RATIOS):
        small = best["speed", "ours", "small", ratio]
        out[f"resnet56 at {ratio}: MAC speedup"] = small["mac_speedup"]
        for who, kind in (("ours", "small"), ("ours", "masked"), ("peer", "small")):
            for what in ("forward_s", "train_s"):
                speedup = best["speed", who, "dense", "0"][what] / best["speed", who, kind, ratio][what]
                out[f"resnet56 at {ratio}: {who} {kind} {what.removesuffix('_s')} speedup"] = speedup
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="groups and scaling alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    about_it = about("benchmarks.coupling", ("flax", "optax", "scipy", "torch", "torch-pruning"))
    best = rounds.best("benchmarks.coupling", cases(arguments.quick), arguments.rounds)
    ratios = summary(best, arguments.quick)
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.3g}")
    if arguments.out:
        result = {
            **about_it,
            "threads": THREADS,
            "ratios": {what: round(ratio, 3) for what, ratio in ratios.items()},
            "best": {" ".join(case): result for case, result in best.items()},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
