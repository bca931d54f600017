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
import prune_jax
heavy = ("jax", "flax", "optax", "orbax", "tensorflow_datasets", "ml_collections")
assert not [name for name in heavy if name in sys.modules]  # the import is light
for name in heavy:
    sys.modules[name] = None  # importing it raises ImportError
import prune_jax.report
assert prune_jax.strictest_setup and prune_jax.halving(90, 0.1)
assert prune_jax.trainability_accuracy([50.0], prune_jax.LRSchedule.parse("0:0.1", 1)) == 50.0
assert prune_jax.report.SECTIONS
from prune_jax.__main__ import main
assert main(["compare", "paper:table1"]) == 0
sys.exit(main(["report", "nowhere", "--table=4"]))
"""


def test_fairness_and_report_and_their_commands_work_without_jax():
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "S1" in done.stdout
    assert "GReg-1 ICLR'21 2.31x" in done.stdout
    assert "report: no result folder at nowhere" in done.stderr
