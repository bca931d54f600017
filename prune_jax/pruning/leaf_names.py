"""Names of leaves, the same for a dict, an ``nnx.State``, a module and boxed variables."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

BOX = "value"  # the attribute in which nnx.Variable and Linen's Partitioned hold their array
PARAMS = "params"  # the collection of Linen variables that is trained

Parts = tuple[str, ...]


class Named(NamedTuple):
    """A leaf, its key path joined by "/", and the path's parts without boxes of variables."""

    path: str
    parts: Parts
    leaf: Any


def _is_box(key_path: Any, k: int) -> bool:
    """A box is the last attribute ``value``. An optimizer may keep a list for each leaf behind it."""
    if key_path[k] != GetAttrKey(BOX) or k == 0:
        return False
    rest = key_path[k + 1 :]
    return not rest or (len(rest) == 1 and isinstance(rest[0], SequenceKey))


def _words(key: Any) -> Parts:
    """A flattened dict has whole paths as keys: ``("params", "conv", "kernel")``."""
    if isinstance(key, DictKey) and isinstance(key.key, tuple):
        return tuple(map(str, key.key))
    return tuple(jax.tree_util.keystr((key,), simple=True, separator="/").split("/"))


def named_leaves(tree: Any) -> tuple[list[Named], Any]:
    """Every leaf with its name, and the tree's structure.

    >>> named_leaves({"a": {"b": 1}})[0]
    [Named(path='a/b', parts=('a', 'b'), leaf=1)]
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(tree)
    out = []
    for key_path, leaf in flat:
        path = jax.tree_util.keystr(key_path, simple=True, separator="/")
        inside = [key for k, key in enumerate(key_path) if not _is_box(key_path, k)]
        parts = tuple(word for key in inside for word in _words(key))
        out.append(Named(path, parts, leaf))
    return out, treedef


def tails(paths: Iterable[str]) -> dict[Parts, str]:
    """Endings that name a leaf: its whole path, the path without its box, either without its collection."""
    paths = list(paths)
    out = {_split(path): path for path in paths}
    for parts, path in list(out.items()):
        if parts[-1] == BOX and len(parts) > 1:
            out.setdefault(parts[:-1], path)
    inside = collections(out)
    for parts, path in sorted(out.items(), key=lambda item: item[0][0] != PARAMS):
        if parts[0] in inside and len(parts) > 1:
            out.setdefault(parts[1:], path)
    return out


def _split(path: str) -> Parts:
    """The parts of a path. A key of a dict that is itself a path, ``"('kernel', 'u')"``, counts as its parts."""
    out: list[str] = []
    for part in path.split("/"):
        inner = ast.literal_eval(part) if part[:2] in ("('", '("') else part
        out += map(str, inner) if isinstance(inner, tuple) else [part]
    return tuple(out)


def collections(names: Iterable[Parts]) -> set[str]:
    """First parts that name collections of variables, as in Linen: all, where one of them is 'params'."""
    tops = {parts[0] for parts in names if parts}
    return tops if PARAMS in tops else set()


def longest_tail(parts: Parts, known: Mapping[Parts, str]) -> tuple[str | None, int]:
    """The leaf whose name the parts end with, and where in the parts that name begins."""
    starts = (k for k in range(len(parts)) if parts[k:] in known)
    start = next(starts, len(parts))
    return known.get(parts[start:]), start
