"""What an optimizer's state needs beside the cut of its leaves, so that training goes on as it should."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.keep import Cuts
from prune_jax.pruning.leaf_names import BOX, Parts
from prune_jax.pruning.matching import Match
from prune_jax.pruning.optimizer_axes import COLUMN, PROJECTED, ROW, STACKED, Factored, factored, two_largest
from prune_jax.pruning.optimizer_means import with_small_means

ANEW = "start it anew: optimizer.init(shrink(params, groups, keep))"


def arranged(found: Sequence[Match], wanted: Cuts, sizes: Mapping[str, Mapping[int, int]]) -> list[Match]:
    """The leaves as the small network's optimizer expects them, before they are cut.

    Adafactor calls the mean over a leaf's largest axis its row: where the cut makes another axis the
    largest, row and column change places. Raises ValueError where a state can't be cut: one of GaLore,
    whose moments live in a rotated space, and one of Adafactor of which it can't be told whether optax
    factors the small leaf.
    """
    by_parts = {match.parts: match for match in found}
    _refuse_projected(found, wanted)
    factors = _factors(found, sizes, by_parts)
    sides: dict[Parts, int] = {}  # of each state, the shortest side that it factors
    for (state, _), (item, _) in factors.items():
        sides[state] = min(item.shape[item.second], sides.get(state, item.shape[item.second]))
    out = []
    for match in found:
        state = match.parts[: max(match.start - 1, 0)]
        name = match.name or ""
        if match.role in (ROW, COLUMN) and (state, name) in factors and name in wanted:
            match = _exchanged(match, *factors[state, name], wanted[name], sides[state])
        out.append(match)
    return out


def _refuse_projected(found: Sequence[Match], wanted: Cuts) -> None:
    for match in found:
        if match.name in wanted and match.role == PROJECTED:
            raise ValueError(
                f"leaf {match.path!r} is GaLore's projection, which can't be cut by channels; {ANEW}"
            )


def _factors(
    found: Sequence[Match], sizes: Mapping[str, Mapping[int, int]], by_parts: Mapping[Parts, Match]
) -> dict[tuple[Parts, str], tuple[Factored, dict[str, Match]]]:
    """State and params leaf -> how Adafactor factored it, and its two means."""
    leaves = {parts: match.leaf for parts, match in by_parts.items()}
    out = {}
    for match in found:
        if match.role == ROW and match.name is not None:
            item = factored(match.parts, match.start, sizes[match.name], leaves)
            state, rest = match.parts[: match.start - 1], match.parts[match.start :]
            if item is not None:
                out[state, match.name] = item, {role: by_parts[*state, role, *rest] for role in (ROW, COLUMN)}
    return out


def _exchanged(
    match: Match, item: Factored, means: Mapping[str, Match], stays: Mapping[int, np.ndarray], side: int
) -> Match:
    small = tuple(int(stays[k].sum()) if k in stays else n for k, n in enumerate(item.shape))
    second, largest = two_largest(small)
    if {second, largest} != {item.second, item.largest} or small[second] < side:
        raise ValueError(
            f"leaf {match.path!r} is a mean over one side of {item.shape}; whether Adafactor factors {small} in the "
            f"same way can't be read off its state; {ANEW}"
        )
    if largest == item.largest:
        return match
    other = means[COLUMN if match.role == ROW else ROW]
    return match._replace(leaf=other.leaf, axes=other.axes)


def refreshed(found: Sequence[Match], small: list[Any], wanted: Cuts) -> list[Any]:
    """The cut leaves with the numbers that depended on all of them made anew.

    Adafactor's means are taken over what stays (``with_small_means``).

    L-BFGS weighs a past step by one over the product of its two differences. A step whose product changes its sign is
    left out, as a step that was never taken. A line search that holds a loss and a gradient of the dense network gets
    the loss inf, by which optax knows to compute both.
    """
    if not any(match.name in wanted for match in found):
        return small
    out = with_small_means(found, small, wanted)
    for k, match in enumerate(found):
        state = match.parts[:-1]
        if isinstance(small[k], jax.ShapeDtypeStruct):
            continue
        if match.parts[-1:] == ("weights_memory",) and _has(found, (*state, STACKED[0])):
            out[k] = _pair_weights(found, small, state, small[k])
        elif _is_loss(match, found):
            out[k] = small[k] * 0 + jnp.inf
    return out


def _is_loss(match: Match, found: Sequence[Match]) -> bool:
    """A line search's field ``value``, which has the name of a box, so that ``parts`` may end before it."""
    if match.path.split("/")[-1] != BOX:
        return False
    state = match.parts[:-1] if match.parts[-1:] == (BOX,) else match.parts
    return _has(found, (*state, "learning_rate")) and _has(found, (*state, "grad"))


def _has(found: Sequence[Match], prefix: Parts) -> bool:
    return any(match.parts[: len(prefix)] == prefix for match in found)


def _pair_weights(found: Sequence[Match], small: Sequence[Any], state: Parts, weights: Any) -> Any:
    def memory(name: str) -> list[Any]:
        prefix = (*state, name)
        return [x for match, x in zip(found, small, strict=True) if match.parts[: len(prefix)] == prefix]

    total = jnp.zeros_like(weights)
    for a, b in zip(*map(memory, STACKED), strict=True):
        total += jnp.real(jnp.conj(b) * a).reshape(len(weights), -1).sum(1)
    kept = total * weights > 0
    return jnp.where(kept, 1 / jnp.where(kept, total, 1), 0).astype(weights.dtype)
