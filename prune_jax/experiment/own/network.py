"""A network of the user's own, ``config.model.name = 'my_parts:small_cnn'``, in the form of every other network.

The function is called with those of ``num_classes``, ``input_shape`` (of one example), ``rngs`` and the config's
``model.options`` that its signature takes. It returns one of three things.

- A ``flax.nnx.Module`` whose call maps ``(n, *input_shape)`` to logits ``(n, num_classes)``, with any state
  (``models.functional`` says how it is used).
- A pair ``(init, apply)``. ``init(key, x)`` gives the variables: ``{'params': ..., 'batch_stats': ...}``, or the
  parameters alone, as any pytree of arrays. ``apply(variables, x, train=False, key=None)`` takes what ``init`` gave,
  of ``train`` and ``key`` what its signature names, and returns logits. In training mode it returns
  ``(logits, new batch_stats)`` where the variables hold 'batch_stats'.
- A ``flax.linen.Module``, whose ``init`` and ``apply`` make such a pair.

Its widths are never asked for: small networks are made by cutting. Code that reads its sizes off its arrays runs on
the small ones as it is. Where code fixes them, as Linen modules do, a twin of it runs instead: see ``twins``.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from prune_jax import models, nearest
from prune_jax.experiment.own.pairs import KEY, STATE, kind, linen_pair, of_pair
from prune_jax.experiment.own.parts import call_own, load_own, parameters_of, refuse_changed, taken
from prune_jax.experiment.specs import ModelSpec
from prune_jax.models.functional import Variables
from prune_jax.pruning import surgery
from prune_jax.pruning.coupling import Group, find_groups
from prune_jax.pruning.depth import keep_blocks
from prune_jax.pruning.jaxpr.reading import leaf_paths


@functools.cache  # a memo of a function of a frozen spec, which holds the hash of the source
def abstract_network(spec: ModelSpec) -> models.Network:
    """The functions of an own network, and its dense variables as ``ShapeDtypeStruct``.

    Args:
        spec: its name is a reference ``module:function``.

    Returns:
        The network. Its functions raise ValueError, in one line, for what the user's code raises.

    Raises:
        ValueError: as ``load_own``, and where the function raises, returns something else than a network, has no
            argument that an option names, or gives logits of another shape than ``(n, num_classes)``.
    """
    network = _network(spec, jax.random.key(0))
    network = network._replace(variables=jax.tree.map(_shape, network.variables))
    _check_logits(spec, network)
    return network


def fresh_variables(spec: ModelSpec, key: jax.Array) -> Variables:
    """Random dense variables of an own network, a function of ``key`` alone. Raises as ``abstract_network``."""
    return _network(spec, key).variables


def small_fresh(spec: ModelSpec, keep: Mapping[str, Any], key: jax.Array) -> Variables:
    """Random variables of the network that ``keep`` leaves: scratch for a network whose widths nobody can set.

    The dense network is initialised and cut. Then every parameter of rank 2 or more is multiplied by
    ``sqrt(dense fan-in / small fan-in)``, where the fan-in is the product of all axes but the last. So a weight whose
    variance goes as 1 / fan-in (LeCun's, He's) has the variance that the small layer's own initialisation has.
    Other schemes are not reproduced: fan-out's, Glorot's, orthogonal ones, biases drawn by fan-in.

    Args:
        spec: an own network.
        keep: group name -> indices of the channels that stay, of the dense network.
        key: as for ``fresh_variables``.
    """
    dense = fresh_variables(spec, key)
    return rescaled(dense, surgery.shrink(dense, groups_of(spec), keep))


def rescaled(dense: Variables, small: Variables) -> Variables:
    """Variables ``small``, cut from the random ones of ``dense``, with the variance of their own fan-in.

    See ``small_fresh``.
    """
    return {**small, "params": jax.tree.map(_rescaled, dense["params"], small["params"])}


def first(widths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """A keep of the first channels of each group, for where only their number counts."""
    return {name: np.arange(width) for name, width in widths.items()}


@functools.cache  # a memo of a function of a frozen spec
def groups_of(spec: ModelSpec) -> tuple[Group, ...]:
    """The coupled channel groups of an own network."""
    network = abstract_network(spec)
    return find_groups(network.apply, network.variables, _example(spec, 1))


def _example(spec: ModelSpec, batch: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *spec.input_shape), "float32")


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


def _rescaled(dense: Any, small: Any) -> Any:
    if jnp.ndim(small) < 2:
        return small
    fans = [float(np.prod(jnp.shape(leaf)[:-1])) for leaf in (dense, small)]
    return small if fans[0] == fans[1] else small * jnp.asarray(np.sqrt(fans[0] / fans[1]), small.dtype)


def _network(spec: ModelSpec, key: jax.Array) -> models.Network:
    """The network with random variables. What is raised inside it names the config's key."""
    function = load_own(spec.name, KEY)
    refuse_changed(spec.name, KEY, spec.source)
    offered = {"num_classes": spec.num_classes, "input_shape": spec.input_shape, "rngs": nnx.Rngs(key)}
    options = dict(spec.options)
    _refuse_unknown(function, spec.name, options)
    given = taken(function, offered)
    made = call_own(function, spec.name, KEY, **{**given, **options})
    if isinstance(made, nnx.Module):
        made = keep_blocks(made, range(spec.blocks[1]), spec.blocks[0]) if spec.blocks else made
        if "rngs" not in given:
            raise ValueError(
                f"{KEY} is {spec.name!r}, which makes a module and takes no rngs, so every seed would begin with the "
                "same weights; give the function an argument rngs and hand it to the layers"
            )
        network = models.functional(made)
    elif isinstance(made, linen.Module):
        network = of_pair(spec.name, *linen_pair(made), spec.input_shape, key)
    elif isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        network = of_pair(spec.name, *made, spec.input_shape, key)
    else:
        raise ValueError(
            f"{KEY} is {spec.name!r}, which returned {kind(made)}; it must return a flax.nnx.Module or a pair of "
            "functions (init, apply)"
        )
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), network.variables)
    _check_params(spec, variables["params"])
    apply, apply_train = (_guarded(spec, f) for f in (network.apply, network.apply_train))
    return models.Network(variables, apply, apply_train, streams=network.streams)


def _check_params(spec: ModelSpec, params: Any) -> None:
    found = leaf_paths(params)
    if not found:
        raise ValueError(
            f"{KEY} is {spec.name!r}, which makes a network without parameters; there is nothing to train"
        )
    for path, leaf in found:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"{KEY} is {spec.name!r}, whose parameter {path} is of type {leaf.dtype}; parameters are floats, what "
                f"has no gradient belongs into {STATE!r} (in an nnx.Module: an nnx.Variable)"
            )


def _guarded(spec: ModelSpec, function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: call_own(function, spec.name, KEY, *arguments)


def _check_logits(spec: ModelSpec, network: models.Network) -> None:
    """Raise ValueError unless both modes give float logits ``(n, num_classes)`` and the state keeps its shapes."""
    x = _example(spec, 2)
    key = jax.eval_shape(lambda: jax.random.key(0))
    logits = jax.eval_shape(network.apply, network.variables, x)
    trained, state = jax.eval_shape(network.apply_train, network.variables, x, key)
    for mode, got in (("evaluation", logits), ("training", trained)):
        if getattr(got, "shape", None) != (2, spec.num_classes) or not jnp.issubdtype(
            got.dtype, jnp.floating
        ):
            raise ValueError(
                f"{KEY} is {spec.name!r}, which in {mode} mode gives {kind(got)} for 2 inputs of shape "
                f"{spec.input_shape}; it must give logits of shape (2, {spec.num_classes})"
            )
    old = network.variables[STATE]
    if jax.tree.map(_shape, old) != jax.tree.map(_shape, state):
        raise ValueError(
            f"{KEY} is {spec.name!r}, which in training mode gives {STATE!r} of another structure, shape or dtype than "
            f"it had: {jax.tree.structure(old)} became {jax.tree.structure(state)}; return what was given, updated"
        )


def _refuse_unknown(function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> None:
    known_ones = taken(function, options)
    for option in options:
        if option not in known_ones:
            known = list(parameters_of(function))
            near = nearest.closest(option, known)
            hint = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(known) or 'nothing'}"
            raise ValueError(
                f"model.options.{option} is {options[option]!r}, which {name} doesn't take{hint}"
            )
