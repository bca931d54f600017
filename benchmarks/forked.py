"""Launches as processes of their own, forked from one that has imported every module and used none of them.

Such a start costs no import. For benchmarks and tests that start many; needs Linux.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# What states when, where and for how long, not what came out.
OF_THE_LAUNCH = frozenset({"command", "job", "seconds"})


def prepare(cache: Path) -> None:
    """Import every module; launches share the compilation cache ``cache``: compiling is not what is looked at."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    from prune_jax import run_command  # noqa: F401


def start(flags: list[str], workdir: Path) -> int:
    """A launch in a process of its own; its id. What it prints goes to WORKDIR.log."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with workdir.with_suffix(".log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        _launch([*flags, f"--workdir={workdir}"])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _launch(flags: list[str]) -> None:
    """run.py as a command line starts it."""
    from prune_jax import run_command

    run_command.start(["run.py"], flags)


def run_to_the_end(flags: list[str], workdir: Path) -> float:
    """A whole launch; the CPU seconds that it took. RuntimeError when it fails."""
    before = os.times()
    ended(start(flags, workdir))
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def ended(child: int, cpu_seconds: float = float("inf")) -> bool:
    """Whether the process ends by itself before it has used ``cpu_seconds``; RuntimeError when it fails."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(
                    f"launch {child} failed with exit status {os.waitstatus_to_exitcode(status)}"
                )
            return True
        if _used(child) >= cpu_seconds:
            return False
        time.sleep(0.005)


def _used(child: int) -> float:
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


def outcome(workdir: Path) -> dict[str, Any]:
    """Everything a launch leaves that must not depend on how often it was killed, by file."""
    out: dict[str, Any] = {}
    for path in (*workdir.glob("records/*.json"), *workdir.glob("stages/*/stage.json")):
        content = json.loads(path.read_text())  # a stage's holds the digest of its weights
        out[str(path.relative_to(workdir))] = {k: v for k, v in content.items() if k not in OF_THE_LAUNCH}
    for path in workdir.glob("metrics/*.jsonl"):
        out[str(path.relative_to(workdir))] = sorted(path.read_text().splitlines())
    report = (workdir / "report.md").read_text().splitlines()
    out["report.md"] = [line for line in report if not line.startswith("Command:")]
    out["left over"] = [path.name for folder in ("partial", "locks") for path in workdir.glob(f"{folder}/*")]
    return out


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """One line for every file that differs."""
    missing = [f"{name}: there in one of them only" for name in sorted(wanted.keys() ^ found.keys())]
    return missing + [
        f"{name}:\n  {wanted[name]}\n  {found[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
