"""What a results file says of how it came about."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np


def commit():
    """The commit of this code, with '-dirty' where files differ from it; 'unknown' outside a checkout."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return told.stdout.strip() or "unknown"


def about(module, packages=()):
    """Command, commit, versions and device of a run of ``module``; to be asked before it writes anything.

    ``packages``: distributions whose versions are told beside those of Python, JAX and NumPy.
    """
    device, told = jax.devices()[0], {name: importlib.metadata.version(name) for name in packages}
    return {
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            **told,
        },
        "device": f"{device.platform} {device.device_kind}",
        "machine": f"{os.cpu_count()} x {platform.machine()}, {platform.system()}",
    }
