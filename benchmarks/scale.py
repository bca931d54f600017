"""Training steps at full size beside plain PyTorch: replicas, bfloat16, masks, model FLOPs utilisation.

python -m benchmarks.scale [--peak_tflops 989] [--precision bfloat16] [--rounds 3] [--out FILE]

Each measurement is a process of its own and the processes take turns; the best round counts. Images are random and
stay on the device: no input pipeline is measured (see input_pipeline.py). On a GPU: ResNet-56 at 32 px, batch 128,
alone and as 4 and 16 replicas of one program; ResNet-34 and ResNet-50 at 224 px, batch 256; the peer in channels-last
with autocast and, where it works, torch.compile. Without one the sizes shrink and everything is marked 'CPU'.
Model FLOPs: 6 x MACs x batch (a backward pass counts as two forward ones), whatever is recomputed.
Weak scaling runs on simulated devices, which share the cores: it shows that the program runs, and no speed.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

PEERS = Path(__file__).parent.parent / "tests" / "models" / "torch_peers.py"
RUN_STEPS = 120 * 391  # a Table 6 retraining: 120 epochs of CIFAR10 at batch 128
WHO = ("ours", "peer", "masked")
# network: (image size, classes, batch) on a GPU and on a CPU
SIZES = {
    "resnet8": ((32, 10, 128), (32, 10, 8)),
    "resnet56": ((32, 10, 128), (32, 10, 8)),
    "resnet34": ((224, 1000, 256), (64, 10, 4)),
    "resnet50": ((224, 1000, 256), (64, 10, 4)),
}
CASES = (
    ("resnet56", "ours", 1),
    ("resnet56", "ours", 4),
    ("resnet56", "ours", 16),
    ("resnet56", "peer", 1),
    ("resnet34", "ours", 1),
    ("resnet34", "masked", 1),
    ("resnet34", "peer", 1),
    ("resnet50", "ours", 1),
    ("resnet50", "masked", 1),
    ("resnet50", "peer", 1),
)


def measure_ours(name, masked, replicas, precision, steps, parts=1):
    """Seconds a step of ``replicas`` together, of compilation and first step, and the model's FLOPs a step."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from prune_jax import models
    from prune_jax.experiment import networks, specs
    from prune_jax.experiment.devices import mesh, strategy
    from prune_jax.experiment.devices import replicas as lifting
    from prune_jax.experiment.training import optimizers, step

    gpu = jax.default_backend() != "cpu"
    size, classes, batch = SIZES[name][not gpu]
    batch *= parts
    spec = specs.ModelSpec(name, (size, size, 3), classes)
    how = strategy.decide(jax.default_backend(), True)._replace(replicas="vmap" if replicas > 1 else "loop")
    shape = mesh.MeshShape(1, parts, 1) if parts > 1 else mesh.MeshShape(1, 1, 1)
    place = mesh.placement(shape)
    network = models.functional(
        models.create(name, num_classes=classes, input_shape=(size, size, 3), key=jax.random.key(0))
    )
    optimizer = _held(spec, network.variables) if masked else optimizers.sgd(0.9, 1e-4)
    params, stats = network.variables["params"], network.variables["batch_stats"]
    one = step.TrainState(params, stats, optimizer.init(params))
    state = mesh.put_state(place, jax.tree.map(lambda leaf: jnp.stack([leaf] * replicas), one))
    images = specs.DataSpec("random", (0.5,) * 3, (0.25,) * 3, crop_pad=4 if size == 32 else 0, flip=True)
    made = step.make_step(network, optimizer, images, step.StepPlan(precision), place)
    axes = (0, None, None, None, 0)
    train = jax.jit(lifting.over(place, how)(made, axes), donate_argnums=0)
    rng = np.random.default_rng(0)
    data = mesh.put_whole(
        place,
        (
            rng.integers(0, 256, (batch, size, size, 3)).astype(np.uint8),
            rng.integers(0, classes, batch).astype(np.int32),
        ),
    )
    keys = mesh.put_whole(place, jax.random.split(jax.random.key(1), replicas))
    lr = np.float32(0.01)

    def run(count):
        nonlocal state
        start = time.perf_counter()
        for _ in range(count):
            state, loss = train(state, *data, lr, keys)
        loss.block_until_ready()
        return time.perf_counter() - start

    first = run(1)
    times = [run(steps) / steps for _ in range(3)]
    flops = 6.0 * networks.cost_of(spec).macs * batch * replicas
    return {"step_s": statistics.median(times), "first_s": first, "flops": flops, "batch": batch, "gpu": gpu}


def _held(spec, variables):
    """SGD that keeps half of every prunable group's channels at zero."""
    import numpy as np
    import optax

    from prune_jax.experiment import networks
    from prune_jax.pruning import masks

    groups = networks.groups_of(spec)
    named = dict(networks.uniform_ratios(spec, (), 0.5))
    keep = {group.name: np.arange(group.size // 2) for group in groups if group.name in named}
    mask = masks.expand(variables, groups, keep)["params"]

    def rule(learning_rate):
        decayed = optax.add_decayed_weights(1e-4)
        return optax.chain(decayed, optax.sgd(learning_rate, 0.9), masks.hold(mask))

    return optax.inject_hyperparams(rule)(learning_rate=0.0)


def measure_peer(name, precision, steps):
    """The same in PyTorch: seconds a step, whether it was compiled."""
    import torch

    from benchmarks.peer_networks import resnet

    gpu = torch.cuda.is_available()
    size, classes, batch = SIZES[name][not gpu]
    device = "cuda" if gpu else "cpu"
    if name == "resnet56":
        net = resnet(56, channels=3, classes=classes)
    else:
        spec = importlib.util.spec_from_file_location("torch_peers", PEERS)
        peers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(peers)
        sizes = (3, 3) if name == "resnet34" else (1, 3, 1)
        net = peers.ImageNetResNet(sizes, (3, 4, 6, 3), classes)
    net = net.to(device, memory_format=torch.channels_last)
    torch.backends.cudnn.benchmark = True
    run_net = torch.compile(net) if gpu else net
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    raw = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    raw = raw.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, classes, (batch,), device=device)

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            x = (raw.float() / 255 - 0.5) / 0.25
            sgd.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = torch.nn.functional.cross_entropy(run_net(x), labels)
            loss.backward()
            sgd.step()
        if gpu:
            torch.cuda.synchronize()
        else:
            loss.item()
        return time.perf_counter() - start

    first = run(1)
    times = [run(steps) / steps for _ in range(3)]
    return {
        "step_s": statistics.median(times),
        "first_s": first,
        "batch": batch,
        "gpu": gpu,
        "compiled": gpu,
    }


def child(name, who, replicas, precision, steps, parts):
    """One measurement, printed as JSON by a process of its own."""
    if who == "peer":
        found = measure_peer(name, precision, steps)
    else:
        found = measure_ours(name, who == "masked", replicas, precision, steps, parts)
    print(json.dumps(found))


def run_child(case, arguments, parts=1, timeout=None):
    command = [sys.executable, "-m", "benchmarks.scale", "--child", *map(str, case), str(parts)]
    command += ["--precision", arguments.precision, "--steps", str(arguments.steps)]
    devices = {"JAX_NUM_CPU_DEVICES": str(parts), "JAX_PLATFORMS": "cpu"} if parts > 1 else {}
    return finished(command, timeout, {**os.environ, **devices})


def finished(command, timeout=None, env=None):
    """What a child process printed last, as JSON; or why it failed, in one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than the {timeout:.0f} seconds left"}
    if done.returncode:
        told = done.stderr.strip().splitlines() or [f"exit code {done.returncode}, and no word why"]
        return {"failed": told[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def told(case, found, peak):
    """One line of a case: step time, images and runs a second or hour, utilisation."""
    name, who, replicas = case
    if "failed" in found:
        return f"{name} {who} x{replicas}: failed: {found['failed']}"
    images = found["batch"] * replicas / found["step_s"]
    line = f"{name} {who} x{replicas}: {1e3 * found['step_s']:.1f} ms a step, {images:.0f} images/s"
    if name == "resnet56":
        line += f", {3600 * replicas / found['step_s'] / RUN_STEPS:.2f} runs an hour of {RUN_STEPS} steps"
    if peak and "flops" in found and found["gpu"]:
        line += f", {found['flops'] / found['step_s'] / peak / 1e12:.1%} of the peak's FLOPs"
    return line + ("" if found["gpu"] else " (CPU)")


def faster(before, found):
    """The better of two measurements of a case; one that failed is worse than any."""
    return found if before is None or found.get("step_s", 1e9) < before.get("step_s", 1e9) else before


def summary(best, peak):
    """A line for each case, and for each pair of cases that are held against one another."""
    lines = [told(case, found, peak) for case, found in best.items()]
    for name in SIZES:
        ours, masked, peer = (
            best.get((name, who, 1), {}).get("step_s") for who in ("ours", "masked", "peer")
        )
        if ours and masked:
            lines.append(f"{name}: masked step / dense step {masked / ours:.3f}")
        for replicas in (1, 4, 16):
            together = best.get((name, "ours", replicas), {}).get("step_s")
            if peer and together:
                lines.append(
                    f"{name} x{replicas}: PyTorch step / our step a replica {replicas * peer / together:.2f}"
                )
    return lines


def keep(arguments, best, scaling):
    """Write what is measured so far to ``--out``: a machine may be taken back before the end."""
    if not arguments.out:
        return
    result = {
        "command": " ".join(["python -m benchmarks.scale", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "versions": {name: version(name) for name in ("jax", "flax", "optax", "torch")},
        "precision": arguments.precision,
        "lines": [*summary(best, arguments.peak_tflops), *scaling],
        "best": {" ".join(map(str, case)): found for case, found in best.items()},
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--peak_tflops", type=float, help="of the device in this precision; else no utilisation"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the cases' names, such as 'resnet56 ours'")
    parser.add_argument(
        "--weak_scaling", type=int, nargs="*", default=[], help="numbers of simulated devices"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, who, replicas, parts = arguments.child
        child(name, who, int(replicas), arguments.precision, arguments.steps, int(parts))
        return
    cases = [case for case in CASES if arguments.only in " ".join(map(str, case))]
    best, scaling = {}, []
    for _ in range(arguments.rounds):
        for case in cases:
            best[case] = faster(best.get(case), run_child(case, arguments))
            keep(arguments, best, scaling)
    for parts in arguments.weak_scaling:
        found = run_child(("resnet56", "ours", 1), arguments, parts)
        scaling.append(
            f"weak scaling over {parts} simulated devices: {found}: they share the cores: NOT a speed result"
        )
        keep(arguments, best, scaling)
    print("\n".join([*summary(best, arguments.peak_tflops), *scaling]))


if __name__ == "__main__":
    main()
