"""New statistics of batch normalisation for a pruned network, without training it."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from prune_jax.pruning.leaf_names import Named, longest_tail, named_leaves, tails

Step = Callable[[dict[str, Any], Any], dict[str, Any]]
LARGE = 2.0**10  # a power of two, so that momentum * LARGE has the digits of the momentum


def recalibrate(train_apply: Callable[..., Any], variables: Any, batches: Iterable[Any]) -> Any:
    """The variables with every running statistic replaced by its exact average over the batches.

    Definition: a layer's new mean is the average over all batches of the mean that it computes of its input in
    training mode. Its new variance is the average of those variances. A batch counts by its number of examples, the
    length of its first array's first axis. This is where the running averages of training tend to while the weights
    stand still, whatever the momentum. No weight changes, and the order of the batches doesn't matter.

    The network tells its batch statistics only as ``momentum * old + (1 - momentum) * batch's``. So the first
    batch is run from two old values, which gives the momentum, and every batch from the old value 0. Statistics that
    a call leaves as they are (a frozen layer) stay.

    Args:
      train_apply: ``train_apply(variables, batch)`` in training mode. It returns the new statistics, or a tuple whose
        last entry they are, as a Linen ``apply`` with ``mutable=["batch_stats"]`` does. Of an ``nnx.Module`` it is
        called with the module in training mode and its result is dropped: ``lambda net, batch: net(batch)``.
      variables: the network's variables, or an ``nnx.Module``, which stays as it is.
      batches: an iterable of batches, each a pytree of arrays. All of one size compile once.

    Returns:
      Variables like the given ones, or a new module in the same mode.

    Raises:
      ValueError: there is no batch or no statistic, ``train_apply`` returns a leaf that isn't in the variables, or a
        statistic that is no running average.

    Example:
      >>> norm = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
      >>> new = recalibrate(lambda net, batch: net(batch), norm, [jnp.array([[1.0], [3.0]])])
      >>> new.mean[...].tolist(), norm.mean[...].tolist()
      ([2.0], [0.0])
    """
    if isinstance(variables, nnx.Module):
        return _of_module(train_apply, variables, batches)
    named, treedef = named_leaves(variables)
    averages = _averages(train_apply, variables, batches)
    leaves = [averages.get(item.path, item.leaf) for item in named]
    return jax.tree_util.tree_unflatten(treedef, leaves)


def _of_module(train_apply: Callable[..., Any], module: nnx.Module, batches: Iterable[Any]) -> nnx.Module:
    given, state = nnx.split(module)
    copy = nnx.merge(given, state)
    copy.train()
    training = nnx.graphdef(copy)

    def apply(variables: Any, batch: Any) -> Any:
        net = nnx.merge(training, variables)
        train_apply(net, batch)
        return nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

    return nnx.merge(given, recalibrate(apply, state, batches))


def _averages(train_apply: Callable[..., Any], variables: Any, batches: Iterable[Any]) -> dict[str, Any]:
    step: Step | None = None
    momentum: dict[str, float] = {}
    sums: dict[str, np.ndarray] = {}
    total = 0
    for batch in batches:
        if step is None:
            step, old = _compiled(train_apply, variables, batch)
            momentum = _momenta(step, old, batch)
        fresh = step(_start(old, momentum, 0.0), batch)
        weight = len(jax.tree.leaves(batch)[0])
        for path, m in momentum.items():
            share = np.asarray(fresh[path], np.float64) * (weight / (1 - m))
            sums[path] = sums.get(path, np.zeros_like(share)) + share
        total += weight
    if step is None:
        raise ValueError("batches is empty; the statistics are averages over at least one batch")
    return {path: jnp.asarray(sums[path] / total, old[path].dtype) for path in sums}


def _compiled(train_apply: Callable[..., Any], variables: Any, batch: Any) -> tuple[Step, dict[str, Any]]:
    """``step(old, batch)`` -> new statistics, and the statistics as they are."""
    named, treedef = named_leaves(variables)
    known = tails("/".join(item.parts) for item in named)
    by_parts = {"/".join(item.parts): item for item in named}

    def statistics(old: dict[str, Any], batch: Any) -> dict[str, Any]:
        tree = jax.tree_util.tree_unflatten(treedef, [old.get(item.path, item.leaf) for item in named])
        found = train_apply(tree, batch)
        found = found[-1] if isinstance(found, tuple) else found
        of = [(_origin(item, known, by_parts), item.leaf) for item in named_leaves(found)[0]]
        return {item.path: leaf for item, leaf in of if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)}

    paths = list(jax.eval_shape(statistics, {}, batch))
    if not paths:
        raise ValueError(
            "train_apply returns no statistics; of Linen call apply with mutable=['batch_stats']"
        )
    old = {item.path: jnp.asarray(item.leaf) for item in named if item.path in paths}

    return jax.jit(statistics), old


def _origin(item: Named, known: Any, by_parts: dict[str, Named]) -> Named:
    path, start = longest_tail(item.parts, known)
    if path is None or start:
        raise ValueError(
            f"train_apply returns {item.path!r}, which is not in the variables; let it return the new statistics, "
            "or (output, new statistics)"
        )
    return by_parts[path]


def _start(old: dict[str, Any], moving: Iterable[str], value: float) -> dict[str, Any]:
    """Moving statistics from one value, the others as they are."""
    moving = set(moving)
    return {path: jnp.full_like(x, value) if path in moving else x for path, x in old.items()}


def _momenta(step: Step, old: dict[str, Any], batch: Any) -> dict[str, float]:
    """The momentum of every statistic that a call changes."""
    first = step(old, batch)
    moving = [path for path in old if not np.array_equal(first[path], old[path])]
    low, high = (step(_start(old, moving, value), batch) for value in (0.0, LARGE))
    return {path: _momentum(path, old[path].dtype, low[path], high[path]) for path in moving}


def _momentum(path: str, dtype: Any, low: Any, high: Any) -> float:
    """The number as the code states it: the shortest decimal within rounding."""
    slopes = (np.asarray(high, np.float64) - np.asarray(low, np.float64)) / LARGE
    middle, rounding = float(np.median(slopes)), 4 * float(jnp.finfo(dtype).eps)
    decimals = (round(middle, digits) for digits in range(1, 17))
    m = next(decimal for decimal in decimals if abs(decimal - middle) <= rounding)
    if not 0 <= m < 1 or (abs(slopes - middle) > rounding).any():
        raise ValueError(
            f"statistic {path!r} is no running average momentum * old + (1 - momentum) * new: one more in the old "
            f"value is {m:g} more in the new; let train_apply return running averages alone"
        )
    return m
