"""A training step under a penalty over the plain step, and beside Torch-Pruning's regularised pruners.

python -m benchmarks.regularizers [--rounds 3] [--out results/regularizers.json]
python -m benchmarks.regularizers --tiny      # seconds; shows that it runs, says nothing of speed

Each measurement is a process of its own. The processes take turns, so that what else the machine does hits all of
them alike, and the best round of each counts. One network, batch 100, SGD with momentum 0.9 and weight decay 1e-4,
float32, two threads. Torch-Pruning (optional) takes backward, ``regularize`` and the optimiser's step, the importance
estimated anew in each step as its examples do.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

BATCH = 100
OURS = ("plain", "greg1", "group_lasso", "group_norm", "slimming", "tpp")
PEERS = ("plain", "growing_reg", "group_norm")
SIZES = {"mlp7_linear": (2000, 5), "resnet56": (300, 3)}  # examples of an epoch, epochs that are timed
TINY = {"mlp7_linear": (200, 1), "resnet8": (200, 1)}


def cases(networks):
    """(network, who, what), in the order of a round; slimming needs norms."""
    ours = [
        (name, "ours", what) for name in networks for what in OURS if what != "slimming" or "resnet" in name
    ]
    return [
        *ours,
        *((name, "torch-pruning", what) for name in networks if "resnet" in name for what in PEERS),
    ]


def measure_ours(name, what, examples, epochs):
    """Seconds per step of one replica, and of compilation and first epoch."""
    import jax
    import numpy as np

    from prune_jax import data, models
    from prune_jax.experiment import networks, specs
    from prune_jax.experiment.devices import strategy
    from prune_jax.experiment.devices.replicas import stacked
    from prune_jax.experiment.training import trainer as training_trainer
    from prune_jax.experiment.training.penalties import Pushing
    from prune_jax.pruning.regularizers.table import REGULARIZERS, arguments_of

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, 28, 28, 1)).astype(np.uint8)
    split = data.Split(images, rng.integers(0, 10, examples).astype(np.int32))
    on = training_trainer.to_device(data.Dataset("random", split, split, 10))
    spec = specs.ModelSpec(name, (28, 28, 1), 10)
    how = strategy.decide(jax.default_backend(), networks.is_convolutional(spec))
    pushing = None
    if what != "plain":
        rule = REGULARIZERS[what]
        layers = tuple(networks.unit_sizes(spec, (), "filter"))
        ratios = tuple((layer, 0.5) for layer in layers) if rule.chooses else ()
        pushing = Pushing((what, tuple(sorted(arguments_of(rule.make).items())), layers, ratios, 1, ""), ())
    recipe = training_trainer.Recipe(
        specs.DataSpec("random", (0.5,), (0.5,)), spec, BATCH, 0.9, 1e-4, how, pushing=pushing
    )
    trainer = training_trainer.make_trainer(recipe)
    module = models.create(name, num_classes=10, input_shape=(28, 28, 1), key=jax.random.key(0))
    state = trainer.init(stacked([models.functional(module).variables]))
    steps = examples // BATCH
    lrs, keys, times = np.full(steps, 1e-3, np.float32), jax.random.split(jax.random.key(0), 1), []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        state, loss = trainer.epoch(state, on, keys, lrs)
        loss.block_until_ready()
        times.append(time.perf_counter() - start)
    return {"step_s": statistics.median(times[1:]) / steps, "first_epoch_s": times[0]}


def measure_peer(name, what, examples, epochs):
    """Seconds per step of PyTorch, its penalty by Torch-Pruning."""
    import torch
    import torch_pruning as tp

    from benchmarks.peer_networks import network

    torch.manual_seed(0)
    torch.set_num_threads(2)
    net = network(name)
    images, labels = torch.randn(examples, 1, 28, 28), torch.randint(0, 10, (examples,))
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    pruner = None
    if what != "plain":
        makes = {"growing_reg": tp.pruner.GrowingRegPruner, "group_norm": tp.pruner.GroupNormPruner}
        head = [module for module in net.modules() if isinstance(module, torch.nn.Linear)][-1:]
        pruner = makes[what](
            net,
            images[:1],
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=head,
        )
    times = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        for i in range(0, examples, BATCH):
            x = images[i : i + BATCH].contiguous(memory_format=torch.channels_last)
            sgd.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(x), labels[i : i + BATCH]).backward()
            if pruner is not None:
                pruner.regularize(net)
            sgd.step()
        if what == "growing_reg":
            pruner.update_reg()
        times.append(time.perf_counter() - start)
    return {"step_s": statistics.median(times[1:]) / (examples // BATCH), "first_epoch_s": times[0]}


def run_rounds(rounds, sizes):
    """Every case once a round; the best round counts, since disturbance only ever adds time."""
    found = {case: [] for case in cases(tuple(sizes))}
    for number in range(rounds):
        for case in found:
            command = [
                sys.executable,
                "-m",
                "benchmarks.regularizers",
                "--child",
                *case,
                *map(str, sizes[case[0]]),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"round {number + 1} {case}: left out, {why}", flush=True)
                continue
            found[case].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1} {case}: {found[case][-1]}", flush=True)
    return {case: min(each, key=lambda r: r["step_s"]) for case, each in found.items() if each}


def summary(best):
    """Each regularised step over the plain step of the same side, and Torch-Pruning's step over ours."""
    step = {case: result["step_s"] for case, result in best.items()}
    ratios = {}
    for (name, who, what), seconds in step.items():
        if what != "plain" and (name, who, "plain") in step:
            ratios[f"{name}: {who} {what} / plain"] = seconds / step[name, who, "plain"]
    for name, mine, peer in sorted(
        {
            (case[0], *pair)
            for case in step
            for pair in (("greg1", "growing_reg"), ("group_norm", "group_norm"))
        }
    ):
        ours, theirs = (name, "ours", mine), (name, "torch-pruning", peer)
        if ours in step and theirs in step:
            ratios[f"{name}: torch-pruning {peer} step / our {mine} step"] = step[theirs] / step[ours]
    return ratios


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a round on few examples of small networks")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, who, what, examples, epochs = arguments.child
        measure = measure_ours if who == "ours" else measure_peer
        print(json.dumps(measure(name, what, int(examples), int(epochs))))
        return
    from benchmarks.provenance import about

    told = about("benchmarks.regularizers")
    best = run_rounds(1, TINY) if arguments.tiny else run_rounds(arguments.rounds, SIZES)
    ratios = summary(best)
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.2f}")
    if arguments.out:
        steps = {" ".join(case): result for case, result in best.items()}
        arguments.out.write_text(json.dumps({**told, "ratios": ratios, "best": steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()
