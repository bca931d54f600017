"""The law as a property of random networks."""

import jax
import law
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_nets import networks

from prune_jax.pruning.coupling import find_groups
from prune_jax.pruning.surgery import shrink, slim

QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def check_law(net, seed):
    with jax.enable_x64(True):
        apply, shapes, x, counts_parts = net
        groups = find_groups(apply, shapes, x)
        rng = np.random.default_rng(seed)
        params, x = law.numbers(shapes, seed), law.numbers(x, seed + 1)
        maskable = law.some_keep(groups, rng, maskable=True)
        law.check(apply, params, groups, maskable, x)
        # Frozen groups stay whole whatever is pruned, and all members of a group share its size.
        for group in groups:
            for path, axis, index in group.members:
                assert len(index) == shapes[path].shape[axis]
                assert set(index.tolist()) - {-1} == set(range(group.size))
        everything = law.some_keep(groups, rng)
        small = shrink(params, groups, everything)
        slimmed = slim(apply, params, groups, everything, x)
        if counts_parts:
            assert jax.eval_shape(slimmed, small, x).shape == (2, 3)
        else:  # the code itself, run at the small sizes, is the oracle for surgery
            ours, its_own = law.cheap(lambda p, x: (slimmed(p, x), apply(p, x)), small, x)
            np.testing.assert_allclose(ours, its_own, rtol=1e-6, atol=1e-9)


@settings(max_examples=8, **QUIET)
@given(net=networks(), seed=st.integers(0, 99))
def test_law(net, seed):
    check_law(net, seed)


@pytest.mark.slow
@settings(max_examples=30, **QUIET)
@given(net=networks(longest=8), seed=st.integers(0, 99))
def test_law_at_length(net, seed):
    check_law(net, seed)


@settings(max_examples=40, **QUIET)
@given(net=networks(longest=7))
def test_every_group_can_lose_one_channel(net):
    with jax.enable_x64(True):
        apply, shapes, x, _ = net
        groups = find_groups(apply, shapes, x)
        free = [group for group in groups if group.frozen is None and group.size > 1]
        keep = {group.name: np.arange(1, group.size) for group in free}
        small = slim(apply, shapes, groups, keep, x)
        out = jax.eval_shape(small, shrink(shapes, groups, keep), x)
        assert out.shape == (2, 3)
