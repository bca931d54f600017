"""Strict JAX flags for every test: silent rank promotion is an error. Compiling is most of the suite's cost."""

import gc
import importlib.metadata
import os

import pytest

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

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")


# The deepest network of the catalog is the code of resnet56 with more blocks: it is looked at in the slow part alone.
DEEPEST = "resnet110"


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and DEEPEST in [p for p in callspec.params.values() if isinstance(p, str)]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """What several tests, or processes that they start, compile alike is compiled once in a session."""
    folder = str(tmp_path_factory.mktemp("compilation_cache"))
    flags = {"jax_compilation_cache_dir": folder, "jax_persistent_cache_min_compile_time_secs": 0.1}
    for flag, value in flags.items():
        jax.config.update(flag, value)
        os.environ[flag.upper()] = str(value)


@pytest.fixture(scope="module", autouse=True)
def frozen_garbage():
    """What JAX keeps for good, from one file of tests to the next, is looked through once, not at each collection."""
    yield
    gc.collect()
    gc.freeze()
