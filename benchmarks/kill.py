"""Kill a real run with SIGKILL at random moments, again and again, and compare its end with the uninterrupted one.

python -m benchmarks.kill                                    1,000 kills of a small sweep
python -m benchmarks.kill --kills=20                         as in the tests
python -m benchmarks.kill --kills=5 -- --config=configs/table6.py:quick    of another one; after -- run.py's flags

A killed launch is started again until it ends by itself; then the next one begins in a new folder, until all kills
are spent. Exit code 1, with the differences, when an end is not bit for bit the same. Needs Linux. Commit nothing
meanwhile: reports name the checkout's commit.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import forked

SMALL = (
    "--config=configs/mystery1_mlp7.py",
    "--config.quick",
    "--config.retrain_epochs=(4,)",
    "--config.retrain_lrs=(1e-2,)",
    '--config.recoveries=("orthp",)',
    "--config.measure.jsv=False",
    '--config.report.sections=("accuracy",)',
    "--config.checkpoint_seconds=0",
)


def main(arguments: list[str]) -> int:
    """Kill, start again, compare; the exit code."""
    own, theirs = (
        (arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :])
        if "--" in arguments
        else (arguments, list(SMALL))
    )
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args(own)
    root = Path(tempfile.mkdtemp(prefix="kill-"))
    forked.prepare(root / "cache")
    try:
        return _kill_and_compare(theirs, root, args.kills, random.Random(args.seed))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _kill_and_compare(flags: list[str], root: Path, kills: int, chance: random.Random) -> int:
    forked.run_to_the_end(flags, root / "warm")  # prepares the data set, fills the cache
    seconds = forked.run_to_the_end(flags, root / "whole")
    wanted, killed, lives = forked.outcome(root / "whole"), 0, 0
    print(f"uninterrupted: {seconds:.1f} s of CPU time, {len(wanted)} files", flush=True)
    while killed < kills:
        workdir = root / f"life{lives}"
        here = _live(flags, workdir, seconds, kills - killed, chance)
        different = forked.differences(wanted, forked.outcome(workdir))
        print(f"life {lives}: killed {here} times, {'DIFFERS' if different else 'the same end'}", flush=True)
        if different:
            print("\n".join(different))
            return 1
        killed, lives = killed + here, lives + 1
        shutil.rmtree(workdir)
    print(f"{killed} kills in {lives} lives: every end bit for bit that of the uninterrupted run")
    return 0


def _live(flags: list[str], workdir: Path, seconds: float, kills: int, chance: random.Random) -> int:
    """Start, kill after a random part of the CPU time that a whole run takes, start again; the number of kills."""
    killed = 0
    while killed < kills:
        child = forked.start(flags, workdir)
        if forked.ended(child, chance.uniform(0.0, seconds)):
            return killed
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed += 1
    forked.run_to_the_end(flags, workdir)
    return killed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
