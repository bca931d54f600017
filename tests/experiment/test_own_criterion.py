"""A criterion of the user's own is held to one real number per channel."""

import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment import own_criterion
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.criteria import Evidence

PARAMS = {"a": {"kernel": jnp.ones((4, 3))}, "b": {"kernel": jnp.ones((3, 2))}}


def net(params, x):
    return x @ params["a"]["kernel"] @ params["b"]["kernel"]


GROUPS = find_groups(net, PARAMS, jnp.ones((1, 4)))
OPEN = [group for group in GROUPS if group.frozen is None]
EVIDENCE = Evidence(PARAMS, GROUPS)


def test_scores_are_numpy_arrays_of_the_groups_that_are_pruned(write):
    name = f"{write('def rank(evidence): return dict(a=[1, 2, 3], b=[0.5])')}:rank"
    scores = own_criterion.scores_of(name, EVIDENCE, OPEN)
    assert list(scores) == ["a"]
    np.testing.assert_array_equal(scores["a"], [1, 2, 3])


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("None", "returned NoneType; it must return a dict: group name -> scores"),
        ("{'c': [1.0]}", "returned no scores of a, only of c; score it, or leave it out of sparsify.layers"),
        ("{}", "returned no scores of a, only of none"),
        ("{'a': [1.0, 2.0]}", r"returned scores of shape \(2,\) for a; it has 3 channels"),
        ("{'a': 1.0}", r"returned scores of shape \(\) for a"),
        (
            "{'a': [1.0, float('nan'), 2.0]}",
            "returned 1 NaN among the 3 scores of a; every channel needs a rank",
        ),
        ("{'a': [1j, 2j, 3j]}", "returned complex128 for a; scores are real numbers"),
        ("{'a': ['x', 'y', 'z']}", "returned <U1 for a; scores are real"),
        ("evidence.nothing", "raised AttributeError: 'Evidence' object has no attribute 'nothing'"),
    ],
)
def test_what_is_no_score_is_refused_in_one_line(write, returned, told):
    name = f"{write(f'def rank(evidence): return {returned}')}:rank"
    with pytest.raises(ValueError, match=rf"^sparsify.criterion is '{name}', which {told}") as caught:
        own_criterion.scores_of(name, EVIDENCE, OPEN)
    assert "\n" not in str(caught.value)


def test_a_trial_on_random_weights_lets_nan_pass(write):
    name = (
        f"{write('def rank(evidence): return dict(a=[1.0, float(chr(110) + chr(97) + chr(110)), 2.0])')}:rank"
    )
    assert np.isnan(own_criterion.scores_of(name, EVIDENCE, OPEN, finite=False)["a"][1])
