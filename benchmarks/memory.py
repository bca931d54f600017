"""Resident memory of a call, the same for JAX and PyTorch: how far the process's pages rise while it runs (Linux)."""

import ctypes
import gc
import statistics
from pathlib import Path


def rise_mb(function):
    """MiB by which the resident set rises above what it is now while ``function()`` runs; its result is dropped.

    Of a call that compiles, the compiler's working memory is part of it.
    """
    _give_back()
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the highest resident set, starts anew: proc(5)
    function()
    return max(_status_mb("VmHWM") - before, 0.0)


def median_rise_mb(function, calls=9):
    """The median of several calls: threads overlap otherwise in each. ``function`` has been called before, so
    nothing is compiled.
    """
    return statistics.median(rise_mb(function) for _ in range(calls))


def _give_back():
    """Return what earlier calls have freed: pages that an allocator kept would hide what the next call takes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _status_mb(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) / 1024
