"""Jacobian spectra beside PyTorch, and their floor, on the same machine in one run; ratios and memory reported.

python -m benchmarks.jacobian [--rounds 3] [--quick] [--only WORD ...] [--out results/jacobian.json]

Each measurement is a process of its own and reports its median; the processes take turns, and of several
rounds the median counts. ``--only resnet56 ours`` runs the measurements that hold all of these words. What is
measured stands in the sections below: modules with ``cases(quick, backend)``, the measurements, as tuples of strings;
``on_accelerator(*case)``, whether one is of an accelerator, else it is held to the CPU; ``measure(*case)``, one of
them, as a dict of numbers; ``ratios(found)``, what is quoted of the medians.
"""

import argparse
import contextlib
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

SECTIONS = ("jacobian_exact",)


def section(name):
    return importlib.import_module(f"benchmarks.{name}")


def child(name, *case):
    """One measurement, printed as JSON by a process of its own."""
    print(json.dumps(section(name).measure(*case)))


def run(case):
    name, *rest = case
    held = {} if section(name).on_accelerator(*rest) else {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.jacobian", "--child", *case]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | held)
    if done.returncode:
        raise SystemExit(f"{' '.join(case)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def default_backend():
    """What jax runs on here; asked in a process of its own, which gives the device back."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def accelerated(found):
    """Which measurements ran on an accelerator, as their processes said themselves."""
    mine = [
        f"{' '.join(case)} on {result['device']}"
        for case, result in found.items()
        if result.get("backend", "cpu") != "cpu"
    ]
    return f"measured: {', '.join(mine)}" if mine else "not measured"


def run_rounds(rounds, quick, only):
    """Every measurement once a round, and the results of all rounds."""
    backend = default_backend()
    cases = [(name, *case) for name in SECTIONS for case in section(name).cases(quick, backend)]
    found = {case: [] for case in cases if set(only) <= set(case)}
    if not found:
        raise SystemExit(f"no measurement holds {' and '.join(only)}; words: {sorted(set().union(*cases))}")
    for number in range(rounds):
        for case, results in found.items():
            results.append(run(case))
            print(f"round {number + 1} {' '.join(case)}: {json.dumps(results[-1])}", flush=True)
    return found


def medians(results):
    """The median of each number over the rounds; what is no number, from the first."""
    first = results[0]
    if isinstance(first, dict):
        return {key: medians([result[key] for result in results]) for key in first}
    return statistics.median(results) if isinstance(first, int | float) else first


def summary(found):
    """What each section quotes; of a part of its measurements (``--only``), what that part suffices for."""
    out = {}
    for name in SECTIONS:
        mine = {case[1:]: result for case, result in found.items() if case[0] == name}
        with contextlib.suppress(KeyError):
            out |= section(name).ratios(mine)
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small networks alone")
    parser.add_argument("--only", nargs="+", default=(), metavar="WORD")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    rounds = run_rounds(arguments.rounds, arguments.quick, arguments.only)
    found = {case: medians(results) for case, results in rounds.items()}
    quoted = summary(found)
    for what, value in quoted.items():
        print(f"{what}: {value:.3g}")
    if arguments.out:
        from importlib.metadata import version

        result = {
            "command": " ".join(["python -m benchmarks.jacobian", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {platform.system()}",
            "gpu": accelerated(found),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "torch")},
            "seed": 0,
            "rounds": arguments.rounds,
            "ratios": {what: float(f"{value:.4g}") for what, value in quoted.items()},
            "medians": {" ".join(case): result for case, result in found.items()},
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
