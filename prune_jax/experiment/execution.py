"""How an epoch and its replicas are executed: the one place where backend and network decide."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

EPOCHS = ("auto", "scan", "step")
REPLICAS = ("auto", "vmap", "loop")


class Execution(NamedTuple):
    """``epoch``: 'scan' (one program an epoch) or 'step'; ``replicas``: 'vmap' (together) or 'loop'."""

    epoch: str
    replicas: str


def decide(backend: str, convolutional: bool, epoch: str = "auto", replicas: str = "auto") -> Execution:
    """The execution for a backend ('cpu', 'gpu', 'tpu') and a network; 'auto' is replaced, the rest kept.

    XLA:CPU runs the gradient of a convolution inside a loop about 19 times slower than outside one
    (measured on jax 0.10.2) and gains nothing from ``vmap`` over convolutions, so there convolutional
    networks step from Python, one replica after another. Everything else scans, replicas under ``vmap``.
    Raises ValueError for a choice that is neither 'auto' nor one of the two.
    """
    for name, choice, allowed in (("epoch", epoch, EPOCHS), ("replicas", replicas, REPLICAS)):
        if choice not in allowed:
            raise ValueError(f"execution.{name} is {choice!r}; allowed: {', '.join(allowed)}")
    slow_loops = backend == "cpu" and convolutional
    return Execution(
        ("step" if slow_loops else "scan") if epoch == "auto" else epoch,
        ("loop" if slow_loops else "vmap") if replicas == "auto" else replicas,
    )


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
