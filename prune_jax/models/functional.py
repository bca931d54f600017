"""A module as pure functions over plain dicts, the form in which everything else meets it."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Variables = dict[str, Any]


class Network(NamedTuple):
    """A network without state: its variables, and functions of them.

    Attributes:
        variables: {'params': nested dict, 'batch_stats': nested dict}. The second holds all that training updates
            without a gradient: running statistics and counters. It is empty for a network without such state.
        apply: (variables, x) -> logits, in evaluation mode. A function of its arguments alone.
        apply_train: (variables, x, key) -> (logits, new batch_stats), with batch statistics of x. ``key`` is for
            dropout and other random layers. A network without them ignores it.
        embedded: (variables, tokens) -> embeddings (n, length, hidden). Of a language model, else None.
        last_logits: (variables, embeddings) -> logits of the last position (n, K). Of a language model, whose Jacobian
            is taken of it, else None.
        streams: (variables, x) -> the residual stream before every block and after the last (depth + 1, ..., hidden).
            Of a module with such a method, else None.
    """

    variables: Variables
    apply: Callable[[Variables, jax.Array], jax.Array]
    apply_train: Callable[..., tuple[jax.Array, dict[str, Any]]]
    embedded: Callable[[Variables, jax.Array], jax.Array] | None = None
    last_logits: Callable[[Variables, jax.Array], jax.Array] | None = None
    streams: Callable[[Variables, jax.Array], jax.Array] | None = None


def functional(module: nnx.Module) -> Network:
    """Take `module` apart: its variables, and its call in both modes.

    Lists of layers become dicts with integer keys. Leaves may have another size than the module was built with, as long
    as they fit each other. So pruned variables run as they are. On a module without arrays (`abstract`) the variables
    are ShapeDtypeStructs. Call the functions inside a trace (jit, grad, eval_shape): each call rebuilds the module.

    A call that takes `train` is told the mode by it. Otherwise, and always in a module with random layers, the
    layers are set to their mode as `nnx.Module.train()` and `.eval()` do. The state of random number generators is
    not carried: in training every stream starts from the step's key.

    Args:
        module: any `nnx.Module` whose call maps inputs `(n, ...)` to logits `(n, K)`. It is left as it is.

    Returns:
        Its variables and functions. Every variable that is neither `nnx.Param` nor random state is in 'batch_stats'.
    """
    graphdef, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    params, random, stats = states
    takes_train = "train" in inspect.signature(type(module).__call__).parameters
    streams = jax.tree.map(_shape, nnx.to_pure_dict(random))
    carried = nnx.Not(nnx.Any(nnx.Param, nnx.RngState))
    sets_mode = not takes_train or bool(jax.tree.leaves(streams))

    def merged(variables: Variables, key: jax.Array | None) -> Any:
        return nnx.merge(graphdef, variables["params"], _seeded(streams, key), variables["batch_stats"])

    def method(name: str) -> Callable[[Variables, jax.Array], jax.Array] | None:
        return (
            (lambda variables, x: getattr(merged(variables, None), name)(x))
            if hasattr(module, name)
            else None
        )

    def called(
        variables: Variables, x: jax.Array, key: jax.Array | None, train: bool
    ) -> tuple[jax.Array, Any]:
        net = merged(variables, key)
        if sets_mode:
            net.train() if train else net.eval()
        logits = net(x, train=train) if takes_train else net(x)
        return logits, net

    def apply(variables: Variables, x: jax.Array) -> jax.Array:
        return called(variables, x, None, False)[0]

    def apply_train(
        variables: Variables, x: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        logits, net = called(variables, x, key, True)
        return logits, nnx.to_pure_dict(nnx.state(net, carried))

    variables = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(stats)}
    methods = (method(name) for name in ("embedded", "last_logits", "streams"))
    return Network(variables, apply, apply_train, *methods)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _seeded(streams: Any, key: jax.Array | None) -> Any:
    """The state of a network's random streams: each with a key of its own made from ``key``, no draw made yet."""
    leaves, treedef = jax.tree.flatten(streams)
    if not leaves:
        return streams
    base = jax.random.key(0) if key is None else key  # in evaluation nothing is drawn

    def start(number: int, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        own = jax.random.fold_in(base, number)
        return jax.random.split(own, leaf.shape) if leaf.shape else own

    return jax.tree.unflatten(treedef, [start(i, leaf) for i, leaf in enumerate(leaves)])
