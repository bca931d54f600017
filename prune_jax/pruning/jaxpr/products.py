"""Channels that are products of two: whole heads may go, and pairs of dimensions inside of every head too.

A rotary embedding turns two dimensions of a head together. Where a kernel has an axis of its own for the dimensions,
they go in pairs. A flat kernel has one axis for heads and dimensions. Its position ``(i, j)`` stays where head ``i``
and dimension ``j`` both stay:

    dimension       0  1  2  3
    class of part   a  b  a  b      halves, turned together: pairs (0, 2) and (1, 3)
    flat axis       head 0: 0 1 2 3, head 1: 4 5 6 7
    heads           0 0 0 0 1 1 1 1
    pairs           0 1 0 1 0 1 0 1
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prune_jax.pruning.jaxpr.classes import Classes, first_reasons
from prune_jax.pruning.jaxpr.labels import Ledger, Split


class Product(NamedTuple):
    """A split whose channels run along part ``outer`` and along part ``inner``, whose indices go in pairs."""

    split: int
    outer: int
    inner: int


def paired(ledger: Ledger, solved: Classes, chosen: Sequence[tuple[int, int]]) -> list[Product]:
    """Choices of a part beside which another part has channels of several indices, which that choice alone froze."""
    reasons = np.array([split.reason for split in ledger.splits])
    found = []
    for number, outer in chosen:
        split = ledger.splits[number]
        inner = [
            k
            for k, child in enumerate(split.children)
            if k != outer and _goes_in_pairs(solved, child, reasons)
        ]
        if len(inner) == 1 and split.assumed is None and _is_whole(split, outer):
            found.append(Product(number, outer, inner[0]))
    return found


def _goes_in_pairs(solved: Classes, child: np.ndarray, reasons: np.ndarray) -> bool:
    if (child < 0).any():
        return False
    ids = np.unique(solved.of[child])
    return 1 < len(ids) < len(child) and bool(np.isin(solved.frozen[ids], reasons).all())


def _is_whole(split: Split, outer: int) -> bool:
    return bool((split.parent >= 0).all() and (split.children[outer] >= 0).all())


def _parts(ledger: Ledger, solved: Classes, product: Product) -> tuple[np.ndarray, np.ndarray]:
    """Classes of all positions, and of the outer and the inner part at each: (positions,) and (positions, 2)."""
    split = ledger.splits[product.split]
    shape = split.parent.shape

    def wide(k: int) -> np.ndarray:
        along = [-1 if n == k else 1 for n in range(len(shape))]
        return np.broadcast_to(solved.of[split.children[k]].reshape(along), shape).reshape(-1)

    return solved.of[split.parent].reshape(-1), np.column_stack([wide(product.outer), wide(product.inner)])


def possible(ledger: Ledger, solved: Classes, products: Sequence[Product]) -> list[Product]:
    """Those products that hold together, where ``solved`` has no choice made for any of them.

    Each position is a class of its own, nothing of it is frozen, no part is a product itself, and splits of the same
    positions have the same parts.
    """
    parts = [_parts(ledger, solved, product) for product in products]
    is_product = np.zeros(len(solved.frozen), bool)
    for whole, _ in parts:
        is_product[whole] = True
    factors = np.full((len(solved.frozen), 2), -1)
    found = []
    for product, (whole, both) in zip(products, parts, strict=True):
        apart = len(np.unique(whole)) == len(whole)
        free = (solved.frozen[whole] < 0).all() and (solved.frozen[both] < 0).all()
        agrees = ((factors[whole] == both) | (factors[whole] < 0)).all()
        if apart and free and agrees and not is_product[both].any():
            factors[whole] = both
            found.append(product)
    return found


def joined(ledger: Ledger, solved: Classes, products: Sequence[Product]) -> Classes:
    """The classes with the two factors of each product. Where a product has no mask, neither has a factor."""
    factors = np.full((len(solved.frozen), 2), -1)
    whole, both = (
        np.concatenate(each) for each in zip(*(_parts(ledger, solved, p) for p in products), strict=True)
    )
    factors[whole] = both
    why = solved.unmasked[whole]
    counted = why >= 0
    unmasked = first_reasons(solved.unmasked, both[counted].reshape(-1), np.repeat(why[counted], 2))
    return solved._replace(unmasked=unmasked, factors=factors)
