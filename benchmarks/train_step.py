"""Training step: ours beside plain PyTorch, on the same machine in one run, ratios reported.

python -m benchmarks.train_step [--rounds 3] [--out results/train_step.json]

Each measurement is a process of its own; the processes take turns, so that what else the machine does hits
all of them alike. Compile time is reported apart. Same data (4,000 uint8 28x28 images on the device, shuffled
and normalised inside the step), batch 100, SGD with momentum 0.9 and weight decay 1e-4, float32, two threads.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES, BATCH = 4000, 100
CASES = (
    ("mlp7_linear", "ours", 1),
    ("mlp7_linear", "peer", 1),
    ("mlp7_linear", "ours", 4),
    ("resnet8", "ours", 1),
    ("resnet8", "peer", 1),
)


def measure_ours(name, replicas, epochs):
    """Seconds per step of ``replicas`` trained together, and seconds of compilation and first run."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from prune_jax import data, models
    from prune_jax.experiment import networks, specs
    from prune_jax.experiment.devices import strategy
    from prune_jax.experiment.devices.replicas import one_device_per_core
    from prune_jax.experiment.training import trainer as training_trainer

    one_device_per_core()  # as run.py does

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 28, 28, 1)).astype(np.uint8)
    split = data.Split(images, rng.integers(0, 10, EXAMPLES).astype(np.int32))
    on = training_trainer.to_device(data.Dataset("random", split, split, 10))
    spec = specs.ModelSpec(name, (28, 28, 1), 10)
    abstract = models.functional(networks.abstract_model(spec))
    convolutional = strategy.is_convolutional(abstract.apply, abstract.variables, networks.example_of(spec))
    how = strategy.decide(jax.default_backend(), convolutional)
    recipe = training_trainer.Recipe(specs.DataSpec("random", (0.5,), (0.5,)), spec, BATCH, 0.9, 1e-4, how)
    trainer = training_trainer.make_trainer(recipe)
    made = [
        models.functional(
            models.create(name, num_classes=10, input_shape=(28, 28, 1), key=jax.random.key(seed))
        ).variables
        for seed in range(replicas)
    ]
    state = trainer.init(jax.tree.map(lambda *leaves: jnp.stack(leaves), *made))
    keys = jax.random.split(jax.random.key(0), replicas)
    steps = EXAMPLES // BATCH
    lrs = np.full(steps, 1e-3, np.float32)
    times = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        state, loss = trainer.epoch(state, on, keys, lrs)
        loss.block_until_ready()
        times.append(time.perf_counter() - start)
    return {"step_s": statistics.median(times[1:]) / steps, "first_epoch_s": times[0], "execution": list(how)}


def measure_peer(name, epochs):
    """Seconds per step of the same in PyTorch."""
    import torch

    from benchmarks.peer_networks import network

    torch.manual_seed(0)
    torch.set_num_threads(2)
    images = torch.randint(0, 256, (EXAMPLES, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (EXAMPLES,))
    net = network(name)
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    times = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        order = torch.randperm(EXAMPLES)
        for i in range(0, EXAMPLES, BATCH):
            rows = order[i : i + BATCH]
            x = ((images[rows].float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
            sgd.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(x), labels[rows]).backward()
            sgd.step()
        times.append(time.perf_counter() - start)
    return {"step_s": statistics.median(times[1:]) / (EXAMPLES // BATCH), "first_epoch_s": times[0]}


def child(name, who, replicas):
    """One measurement, printed as JSON by a process of its own."""
    epochs = 15 if name.startswith("mlp") else 4
    found = measure_ours(name, replicas, epochs) if who == "ours" else measure_peer(name, epochs)
    print(json.dumps(found))


def run_rounds(rounds):
    """Every case once a round; the best round counts, since disturbance only ever adds time."""
    found = {case: [] for case in CASES}
    for number in range(rounds):
        for case in CASES:
            command = [sys.executable, "-m", "benchmarks.train_step", "--child", *map(str, case)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[case].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1} {case}: {found[case][-1]}", flush=True)
    return {case: min(results, key=lambda r: r["step_s"]) for case, results in found.items()}


def summary(best):
    """The ratios that the README quotes."""
    step = {case: result["step_s"] for case, result in best.items()}
    return {
        "mlp7: PyTorch step / our step": step["mlp7_linear", "peer", 1] / step["mlp7_linear", "ours", 1],
        "mlp7: four steps one after another / one step of four under vmap, two a core": 4
        * step["mlp7_linear", "ours", 1]
        / step["mlp7_linear", "ours", 4],
        "resnet8: PyTorch step / our step": step["resnet8", "peer", 1] / step["resnet8", "ours", 1],
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("NETWORK", "WHO", "REPLICAS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, who, replicas = arguments.child
        child(name, who, int(replicas))
        return
    best = run_rounds(arguments.rounds)
    ratios = summary(best)
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.2f}")
    if arguments.out:
        from importlib.metadata import version

        result = {
            "command": " ".join(["python -m benchmarks.train_step", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, 2 cores, CPU",
            "versions": {name: version(name) for name in ("jax", "flax", "optax", "torch")},
            "ratios": {what: round(ratio, 3) for what, ratio in ratios.items()},
            "best": {" ".join(map(str, case)): result for case, result in best.items()},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
