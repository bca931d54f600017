"""Strict JAX flags for every test: silent rank promotion is an error. Compiling is most of the suite's cost."""

import gc
import importlib.metadata
import os

import pytest

gc.disable()  # until all tests are found: importing them makes objects by the million and hardly any garbage

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA's effort is spent on programs that run once or a few times; the tests' processes inherit this too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# With these, jaxlib 0.10 generates code in a third of the time. A flag that a jaxlib doesn't know ends the process, so
# other releases (0.12 doesn't) go without.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if importlib.metadata.version("jaxlib").startswith("0.10.")
    else "",
)

import jax  # noqa: E402  (reads what is set above)

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """With --dist loadgroup a file's tests share a process. Those marked 'apart' go where there is room."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if not item.get_closest_marker("apart"):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))


def pytest_collection_finish():
    """Garbage is looked for from here on, among new objects alone, and seldom: tracing makes few cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """What several tests compile alike is compiled once in a session, if it takes 0.1 s.

    All of pytest's processes share it. Those that tests start do too, whatever it takes: most of what they compile
    another has compiled before.
    """
    base = tmp_path_factory.getbasetemp()
    folder = str((base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "compilation_cache")
    for flag, here, started in (
        ("jax_compilation_cache_dir", folder, folder),
        ("jax_persistent_cache_min_compile_time_secs", 0.1, 0.0),
    ):
        jax.config.update(flag, here)
        os.environ[flag.upper()] = str(started)


@pytest.fixture(scope="module", autouse=True)
def frozen_garbage():
    """What JAX keeps for good, from one file of tests to the next, is looked through once, not at each collection."""
    yield
    gc.collect(
        1
    )  # the young alone: what has lived through a look or two is kept by JAX's caches, nearly always
    gc.freeze()
