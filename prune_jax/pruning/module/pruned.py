"""What ``prune`` returns: a smaller (or masked) model, and the decision that made it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import optax

from prune_jax.pruning.cost import Cost
from prune_jax.pruning.coupling import Analysis
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import Keep
from prune_jax.pruning.masks import hold
from prune_jax.pruning.module.adapters import Source
from prune_jax.pruning.module.report import PruneReport, report_of
from prune_jax.pruning.module.static_inputs import Bind
from prune_jax.pruning.surgery import slim


class Dense(NamedTuple):
    """The network before anything was cut, without its numbers.

    Attributes:
      apply: ``apply(variables, *inputs)`` of the dense network, in evaluation mode.
      variables: its variables as a pytree of ``jax.ShapeDtypeStruct``.
      inputs: the inputs that it was traced with, as ``jax.ShapeDtypeStruct``.
      kind: 'nnx', 'linen', 'haiku', 'keras', 'callable' (a pytree that is called) or 'apply'.
      source: the dense model taken apart, without its numbers.
      bind: what binds the inputs that aren't arrays.
      analysis: what the walk of its trace has learnt.
      free: which ends of the network may lose channels.
    """

    apply: Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    kind: str
    source: Source
    bind: Bind
    analysis: Analysis
    free: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned model.

    Attributes:
      model: of an ``nnx.Module`` the small module, of the same class unless ``wrapped`` says why not. Of a
        callable pytree (an Equinox module) the same pytree with small leaves. None of all others.
      apply: ``apply(variables, *inputs)`` of the small network, in evaluation mode.
      variables: the small variables, in the structure of the dense ones (of NNX the whole state as a pure dict).
      keep: group name -> sorted indices of the channels that stay, in the dense network's numbers.
      groups: the dense network's groups, frozen ones included.
      mask: a pytree like ``variables`` of 0/1 masks where masks were asked for, else None.
      optimizer: the optimiser's state, or the ``nnx.Optimizer``, cut along. None where none was given.
      before: the dense network's cost for the inputs as given.
      after: the pruned network's cost. Of masks: what surgery by the same keep would give.
      wrapped: None, or why ``model`` is a module that wraps the small twin of the dense network's code.
      dense: the network before anything was cut.

    Example:
      >>> import jax.numpy as jnp
      >>> from prune_jax import prune
      >>> target = lambda p, x: x @ p["a"] @ p["b"], {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 1))}
      >>> pruned = prune(target, jnp.ones((1, 2)), ratio=0.5)
      >>> pruned.sizes["a"], pruned.before.macs, pruned.after.macs
      ((4, 2), 12, 6)
    """

    model: Any
    apply: Callable[..., Any]
    variables: Any
    keep: Keep
    groups: tuple[Group, ...]
    mask: Any
    optimizer: Any
    before: Cost
    after: Cost
    wrapped: str | None
    dense: Dense

    @property
    def hold(self) -> optax.GradientTransformation:
        """``prune_jax.hold`` of the mask: the last link of an optax chain that trains the masked network."""
        if self.mask is None:
            raise ValueError(
                "this model was cut, so there is no mask to hold; call prune(..., masked=True) for one"
            )
        return hold(self.mask)

    def twin(self, function: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
        """``function(variables, *inputs)``, written for the dense variables, at the small sizes.

        For whatever else the dense network's code does, training mode above all.

        Args:
          function: any traceable function of the dense variables, such as a Linen module's ``apply`` with
            ``train=True`` and ``mutable=['batch_stats']``.
          *inputs: its inputs, or their shapes.

        Returns:
          The same function of the small variables.

        Raises:
          ValueError: the function can't be cut by this keep.
        """
        if self.mask is not None:
            return function
        return slim(function, self.dense.variables, self.groups, self.keep, *inputs, free=self.dense.free)

    def report(self, latency: bool = False) -> PruneReport:
        """Groups before and after, MACs, parameters, and what is frozen and why. ``print`` shows a table.

        Args:
          latency: measure the time of both networks on this device too: compiled, warmed up, median of 30 calls.
        """
        return report_of(self, latency)

    def __repr__(self) -> str:
        cut = sum(after < before for before, after in self.sizes.values())
        macs = f"{self.before.macs} -> {self.after.macs} MACs"
        return f"Pruned({self.dense.kind}, {cut} of {len(self.groups)} groups, {macs})"

    @property
    def sizes(self) -> Mapping[str, tuple[int, int]]:
        """Group name -> channels before and after, for every group."""
        return {g.name: (g.size, len(self.keep.get(g.name, range(g.size)))) for g in self.groups}
