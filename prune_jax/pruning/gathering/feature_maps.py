"""The rank of each channel's feature maps, in any network with convolutions over two axes.

A channel's map is followed from the convolution that makes it through norms, activation functions and
residual sums, as far as each result is used once and by an element-wise equation. So it is the map that
the next layer, pooling or branch gets. Nothing is registered on layers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.coupling import analyse
from prune_jax.pruning.gathering.activations import Sought, sought
from prune_jax.pruning.gathering.tapped import Probe, Probes, is_open, run
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.rules_control import CALLS
from prune_jax.pruning.jaxpr.rules_elementwise import NAMES as ELEMENTWISE
from prune_jax.pruning.jaxpr.walk import Body, Node


def map_ranks(
    apply: Callable, params: Any, groups: Sequence[Group], *inputs: Any
) -> dict[str, tuple[Any, Any]]:
    """Ranks of the feature maps of each prunable group's channels in ``apply(params, *inputs)``.

    Args:
      apply: any traceable network.
      params: pytree of arrays for which the groups were found.
      groups: from ``find_groups``. Frozen ones are left out.
      inputs: arrays, a batch of any size.

    Returns:
      Group name -> (the sum of the ranks (channels,), the number of maps of each channel). Groups that no
      convolution over two axes makes have no feature maps and are left out. The rank is the number of
      singular values above the largest times the longer side times the rounding of float32.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (params, *inputs))
    analysis = analyse(apply, *shapes)
    probes: Probes = {}
    for each in sought(analysis, groups):
        _find(analysis.body, each, probes)
    return run(analysis.body, jax.tree.leaves((params, *inputs)), probes)[1]


def _find(body: Body, wanted: Sought, probes: Probes) -> None:
    """Note every array that is a feature map of the group, inner programs included."""
    for node in body.nodes:
        if is_open(node):
            _find(node.bodies[0], wanted, probes)
        elif _makes_maps(node, wanted):
            channel = _channels(node, wanted)
            if len(np.unique(channel[channel >= 0])) == wanted.group.size:
                take = functools.partial(
                    _ranks, wanted.group.size, channel, node.eqn.params["dimension_numbers"]
                )
                probes.setdefault(id(_last(body, node)), []).append(Probe(wanted.group.name, take))


def _makes_maps(node: Node, wanted: Sought) -> bool:
    return (
        node.eqn.primitive.name == "conv_general_dilated"
        and len(node.eqn.params["dimension_numbers"].out_spec) == 4
        and wanted.leaf in node.ins[1].weights
    )


def _channels(node: Node, wanted: Sought) -> np.ndarray:
    labels = node.outs[0].axes[node.eqn.params["dimension_numbers"].out_spec[1]]
    return np.where(labels >= 0, wanted.channel_of[np.maximum(labels, 0)], -1)


def _last(body: Body, node: Node) -> Node:
    """The last element-wise equation that the maps pass before they meet anything else."""
    while True:
        made = node.eqn.outvars[0]
        users = [other for other in body.nodes if any(atom is made for atom in other.eqn.invars)]
        leaves = any(atom is made for atom in body.jaxpr.outvars)
        if leaves or len(users) != 1 or not _is_elementwise(users[0], made.aval.shape):
            return node
        node = users[0]


def _is_elementwise(node: Node, shape: tuple[int, ...]) -> bool:
    if len(node.eqn.outvars) != 1 or node.eqn.outvars[0].aval.shape != shape:
        return False
    if node.eqn.primitive.name in CALLS:
        inner = node.bodies[0].nodes
        return all(_is_elementwise(each, each.eqn.outvars[0].aval.shape) for each in inner)
    return node.eqn.primitive.name in ELEMENTWISE


def _ranks(size: int, channel: np.ndarray, dims: Any, _: list[Any], outs: list[Any]) -> tuple[Any, Any]:
    example, feature, *axes = dims.out_spec
    maps = outs[0].astype(jnp.float32).transpose((feature, example, *axes))
    mine = channel >= 0
    ranks = jnp.linalg.matrix_rank(maps[mine]).astype(jnp.float32)
    per_channel = jnp.zeros((2, size)).at[:, channel[mine]]
    return tuple(
        per_channel.add(jnp.stack([ranks.sum(1), jnp.full(len(ranks), ranks.shape[1], jnp.float32)]))
    )
