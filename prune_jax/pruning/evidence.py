"""What a criterion may look at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from prune_jax.pruning.jaxpr.groups import Group


class Evidence(NamedTuple):
    """What is known of a network when its weights or channels are scored.

    A criterion declares which of the fields after ``groups`` it needs; ``gathering.gather`` fills them.

    Attributes:
      params: any pytree of arrays; float leaves of rank two or more are kernels.
      groups: the coupled groups of channels (``find_groups``); empty where single weights are scored.
      key: a PRNG key, for criteria that draw.
      grads: pytree like ``params``, the mean gradient of the loss.
      grads_squared: pytree like ``params``, the mean of the squared gradient.
      activations: group name -> ``Activation`` of what the group's producer makes.
      hessian_products: pytree like ``params``, an estimate of the Hessian's diagonal.
    """

    params: Any
    groups: Sequence[Group] = ()
    key: jax.Array | None = None
    grads: Any = None
    grads_squared: Any = None
    activations: Any = None
    hessian_products: Any = None


NEEDS = frozenset(Evidence._fields) - {"params", "groups"}


class Activation(NamedTuple):
    """Size of one group's activations over all examples and positions: two arrays (channels,), float32.

    ``mean_abs`` is the mean of abs(a), ``norm`` the root of the sum of a ** 2.
    """

    mean_abs: Any
    norm: Any
