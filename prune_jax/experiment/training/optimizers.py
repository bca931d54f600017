"""Optimisers by name: SGD as PyTorch has it, any that optax has, or a function of the user's own."""

import functools
import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from prune_jax import nearest
from prune_jax.experiment.own import parts as own_parts
from prune_jax.pruning.regularizers.penalty import Penalty, regularized

# Optimisers of optax that can't train here: a step has a gradient and an LR, and its state goes to a checkpoint.
UNFIT = MappingProxyType(
    {
        "lbfgs": "its line search evaluates the loss again, which a step doesn't hand on",
        "noisy_sgd": "its state holds a random key, which a checkpoint can't",
        "rprop": "it takes the LR at its first step alone, so that no schedule drives it",
        "scale_by_rprop": "it takes the LR at its first step alone, so that no schedule drives it",
    }
)


class Rule(NamedTuple):
    """How gradients become updates, but for the LR.

    Args:
        name: 'sgd' (see ``sgd``), a function of optax, or ``module:function``.
        arguments: what that function is called with beside ``learning_rate``, as (name, value) pairs.
        clip_norm: the gradient's global norm that is never exceeded. 0: as it is.
        source: the hash of the file that a user's own function lies in.
    """

    name: str = "sgd"
    arguments: tuple[tuple[str, Any], ...] = ()
    clip_norm: float = 0.0
    source: str = ""


def make(
    rule: Rule, momentum: float = 0.0, weight_decay: float = 0.0, penalty: Penalty | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a rule, its learning rate part of the state: ``hyperparams['learning_rate']``.

    Args:
        rule: what to make. Its gradient is clipped first of all, before SGD's decay is added.
        momentum: of 'sgd' alone, in [0, 1).
        weight_decay: of 'sgd' alone. The others take both among their arguments.
        penalty: what training is under beside the loss. Its gradient is clipped with the loss's.

    Raises:
        ValueError: as ``named``.
    """
    function = named(rule.name)
    arguments = dict(rule.arguments)
    if rule.name == "sgd":
        arguments |= {"momentum": momentum, "weight_decay": weight_decay}

    def build(learning_rate: Any) -> optax.GradientTransformation:
        inner = function(learning_rate=learning_rate, **arguments)
        if rule.clip_norm:
            inner = optax.chain(optax.clip_by_global_norm(rule.clip_norm), inner)
        return inner if penalty is None else regularized(inner, penalty, learning_rate)

    return optax.inject_hyperparams(build)(learning_rate=0.0)


def sgd(momentum: float, weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """SGD with momentum and L2 weight decay on every parameter, its learning rate part of the state.

    Decay is added to the gradient before momentum, as PyTorch's SGD does, which the paper's numbers use.
    """
    return make(Rule(), momentum, weight_decay)


def _sgd(
    learning_rate: Any,
    momentum: float,
    weight_decay: float,
    nesterov: bool = False,
    accumulator_dtype: str | None = None,
) -> optax.GradientTransformation:
    rule = optax.sgd(learning_rate, momentum or None, nesterov, accumulator_dtype)
    return optax.chain(optax.add_decayed_weights(weight_decay), rule)


def named(name: str) -> Callable[..., optax.GradientTransformation]:
    """The function that makes the optimiser ``name`` from ``learning_rate`` and its other arguments.

    Raises:
        ValueError: for a name that optax lacks, with the nearest ones, and for one that no schedule can drive.
    """
    if name == "sgd":
        return _sgd
    if own_parts.is_own(name):
        return own_parts.load_own(name, "optimizer.name")
    if name in UNFIT:
        raise ValueError(f"optimizer.name is {name!r}, which can't be used here: {UNFIT[name]}")
    if name in names():
        return getattr(optax, name)
    if hasattr(optax, name):
        raise ValueError(
            f"optimizer.name is {name!r}, but optax.{name} is no optimiser that takes a learning_rate, which the "
            "schedule sets at every step"
        )
    near = " or ".join(repr(each) for each in nearest.closest(name, names(), 3))
    hint = f"did you mean {near}? " if near else ""
    raise ValueError(
        f"optimizer.name is {name!r}, but optax has no such optimiser; {hint}A function of your own is named "
        "module:function"
    )


@functools.cache  # a memo of what the installed optax holds
def names() -> tuple[str, ...]:
    """The optimisers that optax has: its public functions of a ``learning_rate``."""
    functions = {name: f for name, f in vars(optax).items() if inspect.isfunction(f) and name[0] != "_"}
    found = {name for name, f in functions.items() if "learning_rate" in inspect.signature(f).parameters}
    return tuple(sorted({"sgd"} | found - UNFIT.keys()))


@functools.cache  # a memo of a pure function: every run of a sweep asks again
def refuse_unfit(rule: Rule) -> None:
    """ValueError in one line where a rule can't be made or can't take a step. Nothing is computed."""
    params = {
        "kernel": jax.ShapeDtypeStruct((4, 3), jnp.float32),
        "bias": jax.ShapeDtypeStruct((3,), jnp.float32),
    }
    function = named(rule.name)
    try:
        made = function(learning_rate=0.1, **_decay_and_momentum(rule), **dict(rule.arguments))
        if not isinstance(made, optax.GradientTransformation):
            raise TypeError(f"it returned {type(made).__name__}, no optax.GradientTransformation")
        optimizer = make(rule)
        before = jax.eval_shape(optimizer.init, params)
        _, after = jax.eval_shape(optimizer.update, params, before, params)
        _refuse_state(before, after)
    except Exception as error:
        given = ", ".join(f"optimizer.{key}={value!r}" for key, value in rule.arguments) or "no arguments"
        text = " ".join(str(error).split())[:200]
        raise ValueError(
            f"optimizer.name is {rule.name!r} with {given}, which can't take a step: {type(error).__name__}: {text}"
        ) from error


def _decay_and_momentum(rule: Rule) -> dict[str, float]:
    return {"momentum": 0.0, "weight_decay": 0.0} if rule.name == "sgd" else {}


def _refuse_state(before: Any, after: Any) -> None:
    """TypeError for a state that changes its form, or that no checkpoint can hold."""
    forms = [
        (jax.tree.structure(state), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)])
        for state in (before, after)
    ]
    if forms[0] != forms[1]:
        raise TypeError("its state has another structure, shape or type after a step than before")
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(before)):
        raise TypeError(
            "its state holds a typed random key, which a checkpoint can't; use jax.random.PRNGKey"
        )
