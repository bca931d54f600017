"""Seconds of scoring: by gradients beside a training epoch, and by weights beside Torch-Pruning.

python -m benchmarks.criteria [--rounds 3] [--quick] [--out results/criteria.json]

The peer needs ``pip install torch-pruning``, for this benchmark alone; ``--only epoch`` goes without. Each case is a
process of its own; the cases take turns, and of several rounds the best counts, since disturbance only ever adds time.

epoch: ResNet-20 on CIFAR shapes, compiled before the clock starts. "train_s" is one epoch of SGD with momentum,
"score_s" what a sparsifying action does by 'taylor', 'snip' or 'fisher': it gathers the evidence over the same examples
and scores every channel. The two take turns within the process too.
scores: all prunable channels of ResNet-50, from weights (and gradients) that are there; groups are found before the
clock starts, and the best of five calls counts. The peer looks at all coupled layers, as 'coupled' does here. The
default here is 'producer', the paper's way. The peer's LAMP is of channels; 'weights' are scores of single weights.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks import rounds
from benchmarks.provenance import about

BY_GRADIENTS = ("taylor", "snip", "fisher")
BY_WEIGHTS = ("l1", "fpgm", "lamp", "taylor")
THREADS = 2


def clock(function, times):
    """The fewest seconds of several calls."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def epoch(criterion, name, examples, batch_size):
    """An epoch of training and the scores by one criterion, of the same examples."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from prune_jax import models
    from prune_jax.pruning.coupling import find_groups
    from prune_jax.pruning.criteria.table import CRITERIA, channel_scores
    from prune_jax.pruning.evidence import gatherer

    shape = (32, 32, 3)
    network = models.functional(models.create(name, num_classes=10, input_shape=shape, key=jax.random.key(0)))
    groups = find_groups(network.apply, network.variables, jax.ShapeDtypeStruct((1, *shape), "float32"))
    rng, sgd = np.random.default_rng(0), optax.sgd(0.01, momentum=0.9)
    images = jnp.asarray(rng.normal(size=(examples, *shape)).astype(np.float32))
    labels = jnp.asarray(rng.integers(0, 10, examples))
    batches = [
        (images[k : k + batch_size], labels[k : k + batch_size]) for k in range(0, examples, batch_size)
    ]

    def entropy(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def trained(params, stats, batch):
        logits, stats = network.apply_train({"params": params, "batch_stats": stats}, batch[0])
        return entropy(logits, batch[1]), stats

    @jax.jit
    def step(variables, state, batch):
        params = variables["params"]
        grads, stats = jax.grad(trained, has_aux=True)(params, variables["batch_stats"], batch)
        updates, state = sgd.update(grads, state, params)
        return {"params": optax.apply_updates(params, updates), "batch_stats": stats}, state

    gather = gatherer(
        CRITERIA[criterion].needs,
        loss=lambda variables, batch: entropy(network.apply(variables, batch[0]), batch[1]),
        groups=groups,
    )

    def train():
        variables, state = network.variables, sgd.init(network.variables["params"])
        for batch in batches:
            variables, state = step(variables, state, batch)
        jax.block_until_ready(variables)

    def score():
        evidence = gather(network.variables, batches, None)._replace(groups=groups)
        channel_scores(CRITERIA[criterion], evidence)

    train()  # compiles
    score()
    best = {"train_s": float("inf"), "score_s": float("inf")}
    for _ in range(3):
        for key, function in (("train_s", train), ("score_s", score)):
            best[key] = min(best[key], clock(function, 1))
    return best


def scores_ours(criterion, how, name):
    import jax
    import numpy as np

    from benchmarks.coupling_networks import ours
    from prune_jax.pruning.coupling import find_groups
    from prune_jax.pruning.criteria.table import CRITERIA, channel_scores, weight_scores
    from prune_jax.pruning.evidence import Evidence

    apply, shapes, x = ours(name)
    rng = np.random.default_rng(0)

    def drawn():
        return jax.tree.map(
            lambda s: jax.numpy.asarray(rng.normal(size=s.shape, scale=0.05).astype(s.dtype)), shapes
        )

    facts = Evidence(drawn(), find_groups(apply, shapes, x), grads=drawn())
    if how == "weights":
        return {"score_s": clock(lambda: weight_scores(CRITERIA[criterion], facts), 5)}
    return {"score_s": clock(lambda: channel_scores(CRITERIA[criterion], facts, over=how), 5)}


def scores_peer(criterion, name):
    import torch
    import torch_pruning as tp

    from benchmarks.coupling_networks import peer

    torch.set_num_threads(THREADS)
    module, x = peer(name)
    head = [m for m in module.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
    graph = tp.DependencyGraph().build_dependency(module, example_inputs=x)
    groups = list(graph.get_all_groups(ignored_layers=head))
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    importance = {
        "l1": lambda: tp.importance.MagnitudeImportance(p=1),
        "fpgm": tp.importance.FPGMImportance,
        "lamp": tp.importance.LAMPImportance,
        "taylor": tp.importance.TaylorImportance,
    }[criterion]()
    return {"score_s": clock(lambda: [importance(group) for group in groups], 5)}


def child(what, *rest):
    """One case, printed as JSON by a process of its own."""
    if what == "epoch":
        criterion, name, examples, batch_size = rest
        found = epoch(criterion, name, int(examples), int(batch_size))
    elif rest[0] == "peer":
        found = scores_peer(*rest[1:])
    else:
        found = scores_ours(*rest[1:])
    print(json.dumps(found))


def cases(only, quick):
    """The arguments of every child; ``quick`` is one tiny case of each kind that needs no peer."""
    if quick:
        return [("epoch", "taylor", "resnet8", "8", "4"), ("scores", "ours", "l1", "producer", "resnet18")]
    found = []
    if only in (None, "epoch"):
        found += [("epoch", criterion, "resnet20", "256", "128") for criterion in BY_GRADIENTS]
    if only in (None, "scores"):
        for criterion in BY_WEIGHTS:
            found.append(("scores", "peer", criterion, "resnet50"))
            found += [("scores", "ours", criterion, how, "resnet50") for how in ("coupled", "producer")]
        found.append(("scores", "ours", "lamp", "weights", "resnet50"))
    return found


def summary(best):
    """The ratios that are quoted: scoring over an epoch, ours over the peer's."""
    out = {}
    for case, result in best.items():
        if case[0] == "epoch":
            out[f"{case[1]}: scoring / a training epoch"] = result["score_s"] / result["train_s"]
        elif (peer := best.get(("scores", "peer", case[2], case[-1]))) and case[1] == "ours":
            out[f"{case[2]} ({case[3]}): ours / the peer's"] = result["score_s"] / peer["score_s"]
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("epoch", "scores"))
    parser.add_argument("--quick", action="store_true", help="one tiny case of each kind, without the peer")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    asked = cases(arguments.only, arguments.quick)
    compared = () if all(case[1] != "peer" for case in asked) else ("torch", "torch-pruning")
    told = about("benchmarks.criteria", ("flax", "optax", *compared))
    best = rounds.best("benchmarks.criteria", asked, arguments.rounds)
    ratios = summary(best)
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.3g}")
    if arguments.out:
        result = {
            **told,
            "threads": THREADS,
            "ratios": {what: round(ratio, 3) for what, ratio in ratios.items()},
            "best": {" ".join(case): result for case, result in best.items()},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
