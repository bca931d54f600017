"""Depth pruning: whole blocks are scored and removed, from a list of blocks or from stacked leaves.

A block maps a residual stream to one of the same shape, so the network without it still fits together.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Streams = Callable[[Any, Any], Any]


def keep_blocks(tree: Any, keep: Sequence[int], blocks: str | Sequence[str] = "blocks") -> Any:
    """The network with some of its blocks alone.

    Args:
      tree: an ``nnx.Module``, or any params pytree of nested dicts.
      keep: numbers of the blocks that stay, ascending.
      blocks: where they are: the path of a list, of a dict that numbers them, or of leaves that are stacked on their
        first axis. Several paths where a block has parts in several places, such as its params and its statistics.

    Returns:
      A tree or module of the same kind with ``len(keep)`` blocks, numbered anew from 0. The one given stays as it is.

    Raises:
      ValueError: ``keep`` is empty, isn't ascending, or names no block. Or there are no blocks at the path.

    Example:
      >>> params = {"blocks": {0: {"w": 1.0}, 1: {"w": 2.0}, 2: {"w": 3.0}}}
      >>> keep_blocks(params, [0, 2])
      {'blocks': {0: {'w': 1.0}, 1: {'w': 3.0}}}
      >>> keep_blocks({"blocks": {"w": jnp.arange(3)}}, [0, 2])["blocks"]["w"].tolist()
      [0, 2]
    """
    if not isinstance(blocks, str):
        return functools.reduce(lambda left, place: keep_blocks(left, keep, place), blocks, tree)
    path = blocks.split("/")
    if isinstance(tree, nnx.Module):
        tree = nnx.clone(tree)
        parent = _at(tree, path[:-1], blocks)
        setattr(parent, path[-1], _kept(_at(parent, path[-1:], blocks), keep, blocks))
        return tree
    return _replaced(tree, path, keep, blocks)


def number_of_blocks(tree: Any, blocks: str | Sequence[str] = "blocks") -> int:
    """How many blocks there are at the path ``blocks`` of a module or a params pytree, at the first of several."""
    blocks = blocks if isinstance(blocks, str) else blocks[0]
    return _count(_at(tree, blocks.split("/"), blocks), blocks)


def similarity_scores(streams: Streams, params: Any, batches: Iterable[Any]) -> np.ndarray:
    """1 - cos(input, output) of each block, the mean over all examples and positions. The lowest go first.

    Args:
      streams: ``streams(params, batch)`` -> the residual stream before every block and after the last,
        (depth + 1, ..., channels), as ``Decoder.streams`` gives it.
      params: handed to ``streams``.
      batches: an iterable of calibration batches.

    Returns:
      (depth,) float64. A stream of zeros has the cosine 0.

    Raises:
      ValueError: there are no batches.

    Source: Men et al., 2024, ShortGPT, arXiv 2403.03853 (block influence).

    Example:
      >>> streams = lambda params, x: jnp.stack([x, 2 * x, jnp.flip(x, -1)])
      >>> similarity_scores(streams, None, [jnp.array([[1.0, 0.0]])]).tolist()
      [0.0, 1.0]
    """
    found = [_sums(streams, params, batch) for batch in batches]
    _refuse_nothing(found)
    total, count = (np.sum(np.asarray(each, np.float64), 0) for each in zip(*found, strict=True))
    return 1 - total / count


@functools.partial(jax.jit, static_argnums=0)
def _sums(streams: Streams, params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    cosines = _cosines(jnp.stack(list(streams(params, batch))))
    return cosines.sum(1), jnp.asarray(cosines.shape[1], cosines.dtype)


def _cosines(x: jax.Array) -> jax.Array:
    """(depth + 1, ..., channels) -> cosines of neighbours (depth, positions)."""
    x = x.reshape(len(x), -1, x.shape[-1]).astype(jnp.promote_types(x.dtype, jnp.float32))
    norms = jnp.linalg.norm(x, axis=-1)
    product, size = (x[1:] * x[:-1]).sum(-1), norms[1:] * norms[:-1]
    return jnp.where(size > 0, product / jnp.where(size > 0, size, 1), 0)


def skipping_losses(
    loss: Callable[[Any, Any], Any],
    model: Any,
    batches: Iterable[Any],
    blocks: str | Sequence[str] = "blocks",
) -> np.ndarray:
    """The mean loss of the network without each of its blocks. The blocks with the lowest go first.

    Blocks of equal shapes are compiled once.

    Args:
      loss: ``loss(model, batch)`` -> scalar, of an ``nnx.Module`` or a params pytree with one block less.
      model: the module, or the params.
      batches: an iterable of calibration batches, each of which weighs alike.
      blocks: as ``keep_blocks`` takes it.

    Returns:
      (depth,) float64.

    Raises:
      ValueError: there are no batches, or there is one block alone.

    Source: Kim et al., 2024, Shortened LLaMA, arXiv 2402.02834 (there as perplexity).
    """
    batches, depth = list(batches), number_of_blocks(model, blocks)
    _refuse_nothing(batches)
    if depth < 2:
        raise ValueError(f"{blocks!r} holds one block alone, and no network is left without it")
    without = [
        keep_blocks(model, [other for other in range(depth) if other != number], blocks)
        for number in range(depth)
    ]
    if isinstance(model, nnx.Module):
        parts = [nnx.split(each) for each in without]
        run = jax.jit(lambda graph, state, batch: loss(nnx.merge(graph, state), batch), static_argnums=0)
        found = [[run(*part, batch) for batch in batches] for part in parts]
    else:
        run = jax.jit(loss)
        found = [[run(each, batch) for batch in batches] for each in without]
    return np.asarray(jax.device_get(found), np.float64).mean(1)


def blocks_kept(scores: Any, count: int) -> list[int]:
    """The ``count`` blocks with the highest scores, ascending. Of equal ones the first stay.

    Raises:
      ValueError: ``count`` is below 1 or above the number of blocks.

    Example:
      >>> blocks_kept([0.3, 0.1, 0.2], 2)
      [0, 2]
    """
    scores = np.asarray(scores, np.float64)
    if not 1 <= count <= len(scores):
        raise ValueError(f"{count} of {len(scores)} blocks can't stay; choose 1 to {len(scores)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores of blocks {np.flatnonzero(~np.isfinite(scores)).tolist()} aren't finite")
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())


def _refuse_nothing(batches: Sequence[Any]) -> None:
    if not batches:
        raise ValueError("there are no batches to score blocks with; give at least one")


def _at(tree: Any, path: Sequence[str], blocks: str) -> Any:
    for name in path:
        if isinstance(tree, Mapping):
            tree = tree.get(name, tree.get(int(name)) if name.isdigit() else None)
        elif isinstance(tree, list | tuple | nnx.List):
            tree = tree[int(name)] if name.isdigit() and int(name) < len(tree) else None
        else:
            tree = getattr(tree, name, None)
        if tree is None:
            raise ValueError(f"the network has nothing at {blocks!r}; name the path of its blocks")
    return tree


def _numbered(blocks: Any) -> bool:
    """Whether a dict numbers blocks from 0."""
    names = [str(name) for name in blocks] if isinstance(blocks, Mapping) else []
    return bool(names) and sorted(names) == sorted(map(str, range(len(names))))


def _count(found: Any, blocks: str) -> int:
    if isinstance(found, list | tuple | nnx.List) or _numbered(found):
        return len(found)
    tree = nnx.state(found) if isinstance(found, nnx.Module) else found
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(tree)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"{blocks!r} is no list of blocks, and its leaves have no common first axis: {sorted(sizes)}; name the "
            "path of the blocks"
        )
    return next(iter(sizes))[0]


def _kept(found: Any, keep: Sequence[int], blocks: str) -> Any:
    stay = _checked(keep, _count(found, blocks), blocks)
    if isinstance(found, nnx.List):
        return nnx.List([found[number] for number in stay])
    if isinstance(found, list | tuple):
        return type(found)(found[number] for number in stay)
    if _numbered(found):
        names = {str(name): name for name in found}
        return {type(name)(k): found[names[str(n)]] for k, n in enumerate(stay) for name in [names[str(n)]]}
    if isinstance(found, nnx.Module):
        graph, state = nnx.split(found)
        return nnx.merge(graph, jax.tree.map(lambda leaf: _rows(leaf, stay), state))
    return jax.tree.map(lambda leaf: _rows(leaf, stay), found)


def _rows(leaf: Any, stay: list[int]) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(stay), *leaf.shape[1:]), leaf.dtype)
    return leaf[np.asarray(stay)]


def _replaced(tree: Any, path: Sequence[str], keep: Sequence[int], blocks: str) -> Any:
    if not path:
        return _kept(tree, keep, blocks)
    _at(tree, path[:1], blocks)
    return {
        name: _replaced(child, path[1:], keep, blocks) if str(name) == path[0] else child
        for name, child in tree.items()
    }


def _checked(keep: Sequence[int], depth: int, blocks: str) -> list[int]:
    stay = [operator.index(number) for number in keep]
    if not stay or sorted(set(stay)) != stay or stay[0] < 0 or stay[-1] >= depth:
        raise ValueError(
            f"keep is {list(keep)}, but {blocks!r} holds blocks 0 to {depth - 1}; name those that stay, ascending"
        )
    return stay
