import subprocess
import sys

import pytest

import prune_jax


@pytest.mark.parametrize("name", prune_jax.__all__)
def test_every_public_name_loads_and_is_documented(name):
    assert getattr(prune_jax, name).__doc__


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'find_group'; it offers .*find_groups"):
        prune_jax.find_group  # noqa: B018


WITHOUT_JAX = """
import sys
for name in ("jax", "flax", "optax", "orbax", "tensorflow_datasets", "ml_collections"):
    sys.modules[name] = None  # importing it raises ImportError
import prune_jax
import prune_jax.report
assert prune_jax.strictest_setup and prune_jax.halving(90, 0.1)
assert prune_jax.trainability_accuracy([50.0], prune_jax.LRSchedule.parse("0:0.1", 1)) == 50.0
assert prune_jax.report.SECTIONS
from prune_jax.__main__ import main
sys.exit(main(["compare", "paper:table1"]))
"""


def test_fairness_and_report_work_without_jax():
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "S1" in done.stdout


def test_the_import_is_light():
    code = "import sys, prune_jax; sys.exit(any(m in sys.modules for m in ('flax', 'tensorflow_datasets', 'jax')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
