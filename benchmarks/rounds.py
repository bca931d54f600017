"""Measurements that take turns, each in a process of its own; the best of several rounds counts.

What else the machine does hits all cases alike that way, and a disturbance only ever adds time.
"""

import json
import subprocess
import sys


def run(module, cases, rounds):
    """What ``python -m module --child CASE`` prints last, as JSON, for each case in each round: {case: results}.

    A case is a tuple of strings. Each result is printed as it comes. A process that fails ends all, with its message.
    """
    found = {case: [] for case in cases}
    for number in range(rounds):
        for case, results in found.items():
            done = subprocess.run(
                [sys.executable, "-m", module, "--child", *case], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{' '.join(case)} failed:\n{done.stderr}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1} {' '.join(case)}: {json.dumps(results[-1])}", flush=True)
    return found


def best_of(results):
    """The smallest value of each number of several results, dicts in dicts included. None stays None."""
    first = results[0]
    if isinstance(first, dict):
        return {key: best_of([result[key] for result in results]) for key in first}
    return first if first is None else min(results)


def best(module, cases, rounds):
    """The best of each case's results."""
    return {case: best_of(results) for case, results in run(module, cases, rounds).items()}
