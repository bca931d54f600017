"""All that is worth knowing of one accelerator, by one command in under eight minutes.

python -m benchmarks.accelerator [--smallest] [--minutes 8] [--peak_tflops 989] [--out FILE]

Measured, each in a process of its own, the most important first; what no time is left for is said to be left out:
- a training step: ResNet-56 with 1, 4 and 16 replicas, ResNet-50 at 224 px in bfloat16, dense and masked, with model
  FLOPs utilisation where the device's peak is known, beside PyTorch where it is installed (see ``scale``);
- exact Jacobian spectra of ResNet-50, K = 1,000, beside the floor of K input-gradient passes;
- the coupled groups of ResNet-50, and pruning half of its channels;
- a sweep over learning rates as one program (``together='sweep'``) beside one run after another.

Writes results/accelerator_DEVICE.json after every measurement and prints a table for the README. ``--smallest`` is the
same on small networks, for a CPU: it shows that the command runs, and no speed. It writes a file only with ``--out``.
"""

import argparse
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import scale

# Dense bfloat16 TFLOP/s as vendors state them, by a part of the device's name.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L4": 121.0, "V5 LITE": 197.0, "V4": 275.0}
STEPS = (
    ("resnet56", "ours", 1),
    ("resnet50", "ours", 1),
    ("resnet50", "masked", 1),
    ("resnet50", "peer", 1),
    ("resnet56", "ours", 4),
    ("resnet56", "ours", 16),
    ("resnet56", "peer", 1),
)
FULL = {
    "steps": STEPS,
    "network": ("resnet50", 224, 1000, 4),
    "sweep": ("configs/mystery1_convnet.py:quick", 8),
}
SMALLEST = {
    "steps": (("resnet8", "ours", 1),),
    "network": ("mlp7_relu", 8, 10, 4),
    "sweep": ("configs/mystery1_mlp7.py:quick", 2),
}


def made(name, size, classes):
    import jax
    from jax.tree_util import Partial

    from prune_jax import models

    module = models.create(name, num_classes=classes, input_shape=(size, size, 3), key=jax.random.key(0))
    network = models.functional(module)
    return module, Partial(network.apply, network.variables)


def best_of(function, times):
    """Seconds of the first call, and of the fastest of some more."""
    import jax

    found = []
    for _ in range(times + 1):
        start = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - start)
    return found[0], min(found[1:])


def spectra(name, size, classes, batch):
    """Seconds of exact spectra, and of as many input gradients as there are outputs, in passes of one each."""
    import jax
    import jax.numpy as jnp

    from prune_jax import trainability

    _, apply = made(name, size, classes)
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
    first, again = best_of(lambda: trainability.jacobian_singular_values(apply, x), 2)
    gradient = jax.jit(lambda x, k: jax.grad(lambda v: jnp.sum(jnp.take(apply(v), k, axis=1)))(x))
    _, one = best_of(lambda: [gradient(x, k) for k in range(10)], 2)
    return {
        "first_s": first,
        "again_s": again,
        "floor_s": one / 10 * classes,
        "batch": batch,
        "outputs": classes,
    }


def pruning(name, size, classes, batch):
    """Seconds of the coupled groups, and of pruning half of the channels, on one example."""
    import jax.numpy as jnp
    from flax import nnx

    import prune_jax

    module, apply = made(name, size, classes)
    x = jnp.ones((1, size, size, 3))
    forward, variables = apply.func, apply.args[0]
    groups_s = best_of(lambda: len(prune_jax.find_groups(forward, variables, x)), 1)
    prune_s = best_of(lambda: nnx.state(prune_jax.prune(module, x, ratio=0.5).model), 1)
    return {"groups_first_s": groups_s[0], "groups_again_s": groups_s[1], "prune_again_s": prune_s[1]}


def sweep(config, most, together):
    """Seconds of a sweep's first ``most`` runs, compilation included."""
    from prune_jax.experiment import running
    from prune_jax.experiment.config import flags

    loaded, runs = flags.load(config)
    loaded.execution.together = together
    loaded.execution.replicas = "vmap"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        records = running.run(loaded, lambda config: runs(config)[:most], folder)
    return {"seconds": time.perf_counter() - start, "runs": len(records)}


def device():
    import jax

    found = jax.devices()[0]
    return {"kind": found.device_kind, "platform": found.platform}


PARTS = {"device": device, "spectra": spectra, "pruning": pruning, "sweep": sweep}


def measured(arguments, left):
    """What a child process found, or why it failed."""
    command = [sys.executable, "-m", "benchmarks.accelerator", "--child", json.dumps(arguments)]
    return scale.finished(command, timeout=left)


def peak_of(kind):
    return next((peak for name, peak in PEAKS.items() if name in kind.upper()), None)


def rows(found, peak):
    """The table's rows: what, ours, against what."""
    best = {tuple(case.split(" ")): step for case, step in found["steps"].items()}
    best = {(name, who, int(replicas)): step for (name, who, replicas), step in best.items()}
    lines = [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in scale.summary(best, peak)]
    for name, value in found["parts"].items():
        if "failed" in value:
            lines.append((name, f"failed: {value['failed']}"))
        elif name.startswith("spectra"):
            each = f"{value['again_s'] / value['batch']:.3g} s an example"
            lines.append((name, f"{each}, {value['again_s'] / value['floor_s']:.2f} times the floor"))
        elif name.startswith("pruning"):
            lines.append(
                (name, f"groups {value['groups_again_s']:.2f} s, prune {value['prune_again_s']:.2f} s")
            )
        else:
            lines.append((name, f"{value['seconds']:.1f} s for {value['runs']} runs"))
    return lines


def table(result):
    """Markdown for the README."""
    head = [f"| on {result['device']} | measured |", "| --- | --- |"]
    return "\n".join(head + [f"| {what} | {value} |" for what, value in result["rows"]])


def versions():
    found = {}
    for name in ("jax", "jaxlib", "flax", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def cases(sizes, torch_too):
    """What is measured, by name: of the kind 'steps' or 'parts', and the arguments of the child."""
    name, _, classes, _ = sizes["network"]
    steps = [case for case in sizes["steps"] if torch_too or case[1] != "peer"]
    network = list(sizes["network"])
    parts = {
        f"spectra of {name}, K = {classes}": ["spectra", *network],
        f"pruning of {name}": ["pruning", *network],
        "sweep, one program": ["sweep", *sizes["sweep"], "sweep"],
        "sweep, one run after another": ["sweep", *sizes["sweep"], "run"],
    }
    return [("steps", " ".join(map(str, step)), step) for step in steps[:4]] + [
        *[("parts", what, given) for what, given in parts.items()],
        *[("steps", " ".join(map(str, step)), step) for step in steps[4:]],
    ]


def run(arguments):
    start, sizes = time.monotonic(), SMALLEST if arguments.smallest else FULL

    def left():
        return 60 * arguments.minutes - (time.monotonic() - start)

    about = measured(["device"], left())
    kind = about.get("kind", "unknown")
    out = arguments.out
    if out is None and not arguments.smallest:
        out = Path("results") / f"accelerator_{re.sub(r'[^A-Za-z0-9]+', '_', kind).strip('_')}.json"
    peak = arguments.peak_tflops or peak_of(kind)
    result = {
        "command": " ".join(["python -m benchmarks.accelerator", *sys.argv[1:]]),
        "device": kind,
        "platform": about.get("platform"),
        "cores": os.cpu_count(),
        "versions": versions(),
        "peak_tflops": peak,
    }
    found = {"steps": {}, "parts": {}}
    counts = argparse.Namespace(precision="bfloat16", steps=1 if arguments.smallest else 20)
    for group, what, case in cases(sizes, importlib.util.find_spec("torch") is not None):
        if left() < 5:
            found[group][what] = {"failed": f"left out, {arguments.minutes:g} minutes are over"}
        elif group == "steps":
            found[group][what] = scale.run_child(case, counts, timeout=left())
        else:
            found[group][what] = measured(case, left())
        result |= {**found, "rows": rows(found, peak), "seconds": time.monotonic() - start}
        print(what, found[group][what], flush=True)
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smallest", action="store_true", help="small networks, for a CPU")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="after which nothing more is begun or waited for"
    )
    parser.add_argument("--peak_tflops", type=float, help="of the device in bfloat16; known for some devices")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        part, *given = json.loads(arguments.child)
        print(json.dumps(PARTS[part](*given)))
        return
    print(table(run(arguments)))


if __name__ == "__main__":
    main()
