"""What training under a mask costs, in multiply-accumulates an example, where zeros are skipped."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from prune_jax.pruning.cost import MACS
from prune_jax.pruning.inputs.products import traced
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts.unstructured import kernels
from prune_jax.pruning.mask_rules.rule import MaskRule


class TrainingMacs(NamedTuple):
    """Of a step, as means over training.

    Attributes:
      masked: a forward pass without the multiplications by masked weights.
      extra: what a step takes beside three such passes, the gradients of masked weights.
    """

    masked: float
    extra: float


def kernel_macs(apply: Callable, params: Any, *inputs: Any) -> dict[str, int]:
    """Multiply-accumulates that each kernel takes part in, in one forward pass.

    Args:
      apply: any traceable network, a function of params and inputs.
      params: a pytree of arrays, or of their shapes and dtypes.
      inputs: the same, of one example for counts an example.

    Returns:
      Layer name -> count. A kernel whose place in the network isn't found is left out, as is one inside a loop.

    Example:
      >>> kernel_macs(lambda p, x: x @ p["a"]["kernel"], {"a": {"kernel": np.ones((3, 4))}}, np.ones((1, 3)))
      {'a': 12}
    """
    products, found = traced(apply, params, *inputs).products, {}
    for name, path in kernels(params).items():
        uses = products.get(path, [])
        if uses and all(use.scan is None for use in uses):
            nodes = [use.node.eqn for use in uses]
            shapes = [[var.aval.shape for var in (*eqn.invars, *eqn.outvars)] for eqn in nodes]
            found[name] = sum(
                MACS[eqn.primitive.name](eqn, *mine) for eqn, mine in zip(nodes, shapes, strict=True)
            )
    return found


def training_macs(rule: MaskRule, params: Any, macs: Mapping[str, int], total: int) -> TrainingMacs:
    """What a step under a rule takes, as a mean over training.

    Args:
      rule: any mask rule. Without a ``density`` it is dense.
      params: of the network, or their shapes.
      macs: layer name -> multiply-accumulates of its kernel in a forward pass. Others count as dense.
      total: those of the dense network.

    Returns:
      ``masked`` and ``extra``. A step is three forward passes, as its backward pass takes two: towards the inputs and
      towards the weights. Where masked weights need gradients, that last one is dense.

    Source: the accounting of Evci et al., arXiv 1911.11134, appendix H.
    """
    turns = rule.turns >= 0
    forward = np.full(len(turns), float(total))
    for name, density in (rule.density(params) if rule.density else {}).items():
        forward -= macs.get(name, 0) * (1.0 - density)
    dense = {"never": np.zeros_like(turns), "turns": turns, "always": np.ones_like(turns)}[
        rule.dense_gradient
    ]
    return TrainingMacs(float(forward.mean()), float(((total - forward) * dense).mean()))


def held_macs(mask: Any, macs: Mapping[str, int], total: int) -> float:
    """A forward pass without the multiplications by weights that a mask holds at zero.

    Args:
      mask: like the params, of bools. An axis of size 1 stands for all its entries.
      macs, total: as in ``training_macs``.

    Example:
      >>> held_macs({"a": {"kernel": np.array([[True, False]])}}, {"a": 10}, 10)
      5.0
    """
    leaves = dict(leaf_paths(mask))
    floats = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), np.float32), mask)
    alive = {name: np.mean(np.asarray(leaves[path]) != 0) for name, path in kernels(floats).items()}
    return float(total - sum(macs.get(name, 0) * (1.0 - share) for name, share in alive.items()))
