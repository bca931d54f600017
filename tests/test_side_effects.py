"""Importing the package changes nothing of the process: only a command does, when it starts."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# What others change when they are imported is theirs: they come first.
IMPORT_ALL = """
import ast, importlib, json, logging, os, pathlib, pkgutil, signal, sys, threading, warnings
package = pathlib.Path(sys.argv[1]) / "prune_jax"

def others():
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module

for name in sorted({name for name in others() if not name.startswith("prune_jax")}):
    try:
        importlib.import_module(name)
    except ImportError:  # an extra that isn't installed
        pass

import absl.flags, absl.logging, jax

def state():
    return {
        "filters": [repr(one) for one in warnings.filters],
        "hooks": [repr(one) for one in (sys.excepthook, sys.unraisablehook, threading.excepthook)],
        "environment": dict(os.environ),
        "levels": [logging.getLogger(name).level for name in (None, "absl", "jax", "jax._src.xla_bridge")],
        "verbosity": absl.logging.get_verbosity(),
        "flags": sorted(absl.flags.FLAGS),
        "jax": {name: repr(value) for name, value in jax.config.values.items()},
        "signals": [repr(signal.getsignal(one)) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)],
        "argv": sys.argv,
    }

before, mine = state(), []
for found in pkgutil.walk_packages([str(package)], "prune_jax."):
    importlib.import_module(found.name)
    mine.append(found.name)
print(json.dumps([before, state(), mine]))
"""


@pytest.mark.slow
def test_importing_every_module_changes_nothing_of_the_process():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", IMPORT_ALL, str(ROOT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after, modules = json.loads(done.stdout.splitlines()[-1])
    assert len(modules) > 150
    assert after == before
