"""Widths speak of the same channels, by the same names, as the coupling analysis finds them."""

import jax
import jax.numpy as jnp
import numpy as np
from every_network import EVERY

from prune_jax import find_groups, models, shrink

ARGUMENTS = {"num_classes": 7, "input_shape": (32, 32, 3)}


def is_between_paddings(name, group):
    """Channels that option A adds on both sides of a stage's: widths can't say on which side."""
    depth = name.removeprefix("resnet")
    n = (int(depth) - 2) // 6 if depth.isdigit() and depth not in ("18", "34", "50") else 0
    return group.name in (f"blocks/{n}/conv2", f"blocks/{2 * n}/conv2") if n else False


@EVERY
def test_halving_every_group_gives_the_network_built_with_those_widths(name):
    net = models.functional(models.abstract(name, **ARGUMENTS))
    x = jax.ShapeDtypeStruct((1, *ARGUMENTS["input_shape"]), jnp.float32)
    groups = find_groups(net.apply, net.variables, x)
    free = [g for g in groups if g.frozen is None and not is_between_paddings(name, g)]
    keep = {g.name: np.arange(g.size // 2) for g in free}
    widths = {name: len(kept) for name, kept in keep.items()}
    cut = jax.eval_shape(lambda variables: shrink(variables, groups, keep), net.variables)
    built = models.functional(models.abstract(name, widths=widths, **ARGUMENTS)).variables
    assert len(free) >= 4
    assert jax.tree.map(jnp.shape, cut) == jax.tree.map(jnp.shape, built)
