"""A criterion of the user's own is held to one real number per channel."""

import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.config import own_criterion
from prune_jax.pruning.compensation import compensated
from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.evidence import Evidence

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


A, B = "'a/kernel': np.ones((4, 3))", "'b/kernel': np.ones((3, 2))"


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("None", "returned NoneType; it must return a dict: leaf path -> scores"),
        (
            f"{{{A}}}",
            "returned no scores of b/kernel, only of a/kernel; score it, or leave b out of sparsify",
        ),
        (
            f"{{{A}, 'b/kernel': np.ones(2)}}",
            r"returned scores of shape \(2,\) for b/kernel; the leaf's shape is",
        ),
        (
            f"{{{A}, 'b/kernel': np.full((3, 2), 1j)}}",
            "returned complex128 for b/kernel; scores are real numbers",
        ),
        (
            f"{{{A}, 'b/kernel': np.full((3, 2), np.nan)}}",
            "returned 6 NaN among the 6 scores of b/kernel",
        ),
    ],
)
def test_scores_of_single_weights_have_their_leaf_s_shape(write, returned, told):
    text = f"import numpy as np\ndef rank(evidence): return {returned}\n"
    text += "from prune_jax.pruning.criteria.table import Criterion\nweights = Criterion(rank, 'weight')"
    name = f"{write(text)}:weights"
    with pytest.raises(ValueError, match=rf"^sparsify.criterion is '{name}', which {told}") as caught:
        own_criterion.weight_scores_of(name, Evidence(PARAMS), ("*",))
    assert "\n" not in str(caught.value)
    assert own_criterion.weight_scores_of("l1", Evidence(PARAMS), ("a",))["a/kernel"].shape == (4, 3)


def test_a_producer_without_scores_is_named(write):
    text = "from prune_jax.pruning.criteria.table import Criterion\nrank = Criterion(lambda evidence: {}, 'weight')"
    with pytest.raises(ValueError, match="which returned no scores of a/kernel, which makes a; score it"):
        own_criterion.scores_of(f"{write(text)}:rank", EVIDENCE, OPEN)


def test_a_trial_on_random_weights_lets_nan_pass(write):
    name = (
        f"{write('def rank(evidence): return dict(a=[1.0, float(chr(110) + chr(97) + chr(110)), 2.0])')}:rank"
    )
    assert np.isnan(own_criterion.scores_of(name, EVIDENCE, OPEN, finite=False)["a"][1])


OBJECTS = """
from prune_jax.pruning.criteria.table import Criterion
def size(evidence):
    return {"a/kernel": abs(evidence.params["a"]["kernel"]), "b/kernel": abs(evidence.params["b"]["kernel"])}
whole = Criterion(size, "weight")
needy = Criterion(size, "weight", frozenset({"grads"}))
odd = Criterion(size, "weight", frozenset({"colour"}))
unit = Criterion(size, "layer")
number = 3
def halved(evidence, keep):
    return {name: {"kernel": layer["kernel"] / 2} for name, layer in evidence.params.items()}
def cut(evidence, keep):
    return {"a": evidence.params["a"]}
def broken(evidence, keep):
    return evidence.params["c"]
halving, cutting, breaking = (Criterion(size, "weight", compensate=f) for f in (halved, cut, broken))
"""


def test_a_criterion_object_says_its_unit_and_needs(write):
    name = write(OBJECTS)
    whole, needy, plain = (
        own_criterion.criterion_of(f"{name}:{what}") for what in ("whole", "needy", "size")
    )
    assert (whole.unit, needy.needs, plain.unit, plain.needs) == ("weight", {"grads"}, "channel", frozenset())
    np.testing.assert_array_equal(own_criterion.scores_of(f"{name}:whole", EVIDENCE, OPEN)["a"], [1, 1, 1])
    assert own_criterion.criterion_of("l1").unit == "weight"


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("odd", ": criterion 'size' needs 'colour', which no evidence has"),
        ("unit", ", whose unit is 'layer'; allowed: 'weight', 'channel'"),
        ("number", ", which is of type int; it must be a function of the evidence or a Criterion"),
        ("nothing", ", but .* has no 'nothing'"),
    ],
)
def test_what_is_no_criterion_is_refused(write, what, told):
    name = f"{write(OBJECTS)}:{what}"
    with pytest.raises(ValueError, match=rf"^sparsify.criterion is '{name}'{told}"):
        own_criterion.criterion_of(name)


def test_a_criterion_object_may_change_weights_as_well(write):
    name, keep = write(OBJECTS), {"a": np.array([0, 2])}
    halving, cutting, breaking = (
        own_criterion.criterion_of(f"{name}:{what}") for what in ("halving", "cutting", "breaking")
    )
    np.testing.assert_array_equal(compensated(halving, EVIDENCE, keep)["b"]["kernel"], np.full((3, 2), 0.5))
    told = "my criterion, whose compensation returned no leaf 'b/kernel'; it must return params like"
    with pytest.raises(ValueError, match=f"^{told}"):
        compensated(cutting, EVIDENCE, keep, "my criterion")
    with pytest.raises(ValueError, match=f"^sparsify.criterion is '{name}:breaking', which raised KeyError"):
        compensated(breaking, EVIDENCE, keep)
