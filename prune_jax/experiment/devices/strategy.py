"""How an epoch and its replicas are executed: the one place where backend and network decide."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from prune_jax import nearest

EPOCHS = ("auto", "scan", "step")
REPLICAS = ("auto", "vmap", "loop")
TOGETHER = ("run", "sweep")


class Execution(NamedTuple):
    """How training is compiled and run.

    Attributes:
        epoch: 'scan' (one program an epoch) or 'step'.
        replicas: 'vmap' (together) or 'loop' (one after another).
        together: what one program trains. 'run': the replicas of a run, which are its seeds. 'sweep': those of all runs
            that differ in the LR alone.
    """

    epoch: str
    replicas: str
    together: str = "run"


def decide(
    backend: str, convolutional: bool, epoch: str = "auto", replicas: str = "auto", together: str = "run"
) -> Execution:
    """The execution for a backend ('cpu', 'gpu', 'tpu') and a network. 'auto' is replaced, the rest kept.

    XLA:CPU runs the gradient of a convolution inside a loop about 19 times slower than outside one
    (measured on jax 0.10.2) and gains nothing from ``vmap`` over convolutions, so there convolutional
    networks step from Python, one replica after another. Everything else scans, replicas under ``vmap``.
    Raises ValueError for a choice that is not allowed, or one that the others don't go with.
    """
    choices = (("epoch", epoch, EPOCHS), ("replicas", replicas, REPLICAS), ("together", together, TOGETHER))
    for name, choice, allowed in choices:
        nearest.one_of(f"execution.{name}", choice, allowed)
    slow_loops = backend == "cpu" and convolutional
    if replicas == "auto":
        replicas = "loop" if slow_loops and together == "run" else "vmap"
    if together == "sweep" and replicas == "loop":
        raise ValueError(
            "execution.together is 'sweep', whose replicas are one program, and execution.replicas 'loop': choose "
            "together='run', or replicas='vmap' (no streamed data set allows it)"
        )
    return Execution(("step" if slow_loops else "scan") if epoch == "auto" else epoch, replicas, together)


def is_convolutional(apply: Callable[..., Any], *arguments: Any) -> bool:
    """Whether ``apply(*arguments)``, traced on abstract values, holds a convolution at any depth."""
    traced = jax.make_jaxpr(apply)(*arguments)
    return any(name == "conv_general_dilated" for name in _primitives(traced.jaxpr))


def _primitives(jaxpr: Jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from _primitives(value.jaxpr if isinstance(value, ClosedJaxpr) else value)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)
