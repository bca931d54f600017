"""Every kind of model in one form: an apply function, its variables, and how a model is made again from small ones."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen, nnx

from prune_jax.pruning.module import nnx_modules
from prune_jax.pruning.module.remake import Cut, Remade

KINDS = (
    "an nnx.Module, (linen_module, variables), (haiku transformed, params), an Equinox module or another callable "
    "pytree, a Keras model, or (apply, params)"
)


class Source(NamedTuple):
    """A model taken apart.

    Attributes:
      kind: 'nnx', 'linen', 'haiku', 'keras', 'callable' or 'apply'.
      apply: ``apply(variables, *inputs)`` in evaluation mode.
      variables: a pytree of arrays or of ``jax.ShapeDtypeStruct``.
      counted: whether the leaf of a path counts as a parameter.
      remake: the model, the apply function and the reason of a wrapper, from a ``Cut``.
      called: the model as the user's loss takes it, from variables.
      filled: the dense model with other variables in it. None of a pair.
      taken: of kind 'nnx' the module taken apart.
    """

    kind: str
    apply: Callable[..., Any]
    variables: Any
    counted: Callable[[str], bool]
    remake: Callable[[Cut], Remade]
    called: Callable[[Any], Any] = lambda variables: variables
    filled: Callable[[Any], Any] = lambda variables: None
    taken: nnx_modules.Taken | None = None


def source_of(target: Any) -> Source:
    """The target taken apart.

    Raises:
      TypeError: the target is none of the kinds.
    """
    if isinstance(target, nnx.Module):
        return _of_nnx(target)
    if isinstance(target, tuple) and len(target) == 2:
        return _of_pair(*target)
    if hasattr(target, "stateless_call"):
        return _of_keras(target)
    if callable(target) and any(map(_is_array, jax.tree.leaves(target))):
        return _of_callable(target)
    raise TypeError(f"target is a {type(target).__name__}; prune takes {KINDS}")


def _of_nnx(module: nnx.Module) -> Source:
    taken = nnx_modules.taken_apart(module)

    def counted(path: str) -> bool:
        return path in taken.params

    return Source(
        "nnx",
        taken.apply,
        taken.variables,
        counted,
        lambda cut: nnx_modules.remade(taken, cut),
        taken.evaluated,
        lambda variables: nnx_modules.filled(taken, variables),
        taken,
    )


def _plain(kind: str, apply: Callable[..., Any], variables: Any) -> Source:
    return Source(kind, apply, variables, _counted(variables), lambda cut: Remade(None, cut.twin, None))


def _counted(variables: Any) -> Callable[[str], bool]:
    """The collection 'params' where there is one. Else all but batch statistics."""
    has_params = isinstance(variables, Mapping) and "params" in variables

    def counted(path: str) -> bool:
        top = path.split("/", 1)[0]
        return top == "params" if has_params else top not in ("batch_stats", "state")

    return counted


def _of_pair(model: Any, variables: Any) -> Source:
    if isinstance(model, linen.Module):
        return _plain("linen", lambda v, *xs: model.apply(v, *xs), variables)
    if hasattr(model, "init") and hasattr(model, "apply"):
        return _of_haiku(model.apply, variables)
    if callable(model):
        return _plain("apply", model, variables)
    raise TypeError(f"target[0] is a {type(model).__name__}; prune takes {KINDS}")


def _of_haiku(apply: Callable[..., Any], variables: Any) -> Source:
    """``hk.transform``'s apply takes a key after the params, ``hk.transform_with_state``'s a state and a key."""
    names = tuple(inspect.signature(apply).parameters)[:3]
    if names[:3] == ("params", "state", "rng"):
        if not (isinstance(variables, tuple) and len(variables) == 2):
            raise TypeError("target[1] must be (params, state) of a haiku transform_with_state")
        both = {"params": variables[0], "state": variables[1]}
        return _plain("haiku", lambda v, *xs: apply(v["params"], v["state"], None, *xs)[0], both)
    if names[1:2] == ("rng",):
        return _plain("haiku", lambda v, *xs: apply(v, None, *xs), variables)
    return _plain("haiku", apply, variables)


def _of_keras(model: Any) -> Source:
    """Keras 3 on JAX: ``stateless_call`` takes two lists of arrays."""
    parts = {"params": model.trainable_variables, "state": model.non_trainable_variables}
    variables = {part: {v.path: jnp.asarray(v.value) for v in found} for part, found in parts.items()}
    paths = {part: [v.path for v in found] for part, found in parts.items()}

    def apply(variables: Any, *xs: Any) -> Any:
        lists = [[variables[part][path] for path in paths[part]] for part in ("params", "state")]
        return model.stateless_call(*lists, *xs, training=False)[0]

    return _plain("keras", apply, variables)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _of_callable(tree: Any) -> Source:
    """A callable pytree: its arrays are the variables, everything else is its code."""
    variables = jax.tree.map(lambda leaf: leaf if _is_array(leaf) else None, tree)
    leaves = jax.tree.leaves(tree)
    treedef: Any = jax.tree.structure(tree)

    def whole(variables: Any) -> Any:
        arrays = iter(jax.tree.leaves(variables))
        return treedef.unflatten([next(arrays) if _is_array(leaf) else leaf for leaf in leaves])

    def apply(variables: Any, *xs: Any) -> Any:
        return whole(variables)(*xs)

    def remake(cut: Cut) -> Remade:
        own = cut.bind(apply)
        why = cut.differs(own)
        if why is None:
            return Remade(whole(cut.small), own, None)
        return Remade(jax.tree_util.Partial(cut.twin, cut.small), cut.twin, why)

    return Source("callable", apply, variables, lambda path: True, remake, whole, whole)
