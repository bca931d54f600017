"""What several processes agree on, as one process alone sees it; several are started in tests/test_many_devices.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.processes import collective


def test_one_process_is_the_main_one_and_agrees_with_itself():
    assert collective.is_main()
    assert collective.console() is None
    assert [collective.any_of(flag) for flag in (True, False)] == [True, False]
    assert collective.from_main(lambda: {"a": (1, None)}) == {"a": (1, None)}
    with pytest.raises(ZeroDivisionError):
        collective.from_main(lambda: 1 / 0)
    collective.barrier("here")


def test_what_is_made_by_the_main_one_first_is_made_once():
    made = []
    assert collective.main_first(lambda: made.append(1) or len(made)) == 1
    assert made == [1]


def test_fetching_gives_numpy():
    tree = collective.fetch({"a": jnp.arange(3), "b": np.ones(2)})
    assert all(isinstance(leaf, np.ndarray) for leaf in tree.values())
    np.testing.assert_array_equal(tree["a"], [0, 1, 2])
