"""Criteria that ask how well a reader's outputs can be made from fewer inputs.

All of them look at the Gram matrix G = sum of x x^T of a reader's inputs, and none at its outputs: with
the reader's weights W the outputs are known.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_jax.pruning.criteria.readers import Reader, hosted, matrices, readers, wide
from prune_jax.pruning.criteria.replacing import kept_rows, replaced
from prune_jax.pruning.criteria.weights import Scores, prunable
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.inputs.layout import channels_of_rows, to_leaf
from prune_jax.pruning.jaxpr.reading import leaf_paths


def thinet(evidence: Evidence) -> Scores:
    """The greedy order of removal: the channel goes next whose removal changes the readers' outputs least.

    The change is the sum of the squares of what all removed channels together add to the outputs, over all
    examples, positions and outputs. (The paper draws one output and position of each example.) A score
    is the place in that order over the number of channels.
    Source: Luo et al., ICCV 2017, arXiv 1707.06342 Algorithm 1.
    """
    return {
        name: hosted(_greedy, contributions, contributions.shape[:1])
        for name, contributions in _contributions(evidence).items()
    }


def channel_lasso(evidence: Evidence) -> Scores:
    """The penalty at which a channel enters the LASSO that makes the readers' outputs from scaled channels.

    With z_i what channel i adds to the outputs, beta minimises norm2(sum of z_i - sum of beta_i z_i) ** 2 / 2
    + penalty norm1(beta). As the penalty falls, channels enter one after another. The paper lowers the
    number by raising the penalty, and a channel that enters early and leaves again counts as in here.
    Source: He et al., ICCV 2017, arXiv 1707.06168 Sec. 3.1 (i).
    """
    return {
        name: hosted(_entry_penalties, contributions, contributions.shape[:1])
        for name, contributions in _contributions(evidence).items()
    }


def scale_inputs(evidence: Evidence, keep: Mapping[str, Any]) -> Any:
    """Params whose readers' weights are scaled, one number for each input channel that stays, by least squares.

    The scales make the reader's outputs as nearly as they can what they were.
    Source: Luo et al., ICCV 2017, arXiv 1707.06342, which minimises the error after the choice.
    """
    leaves, new = dict(leaf_paths(evidence.params)), {}
    for path, stays in kept_rows(evidence, keep, "input_grams").items():
        gram = wide(evidence.input_grams[path])
        unit, weights = _units(evidence, keep, path), matrices(gram.layout, leaves[path])
        mine = Reader(path, weights, unit, gram)
        between = _between(mine, unit.max() + 1)
        left = np.unique(unit[stays & (unit >= 0)])
        gone = np.setdiff1d(unit[unit >= 0], left)
        scales = np.ones(unit.max() + 2)  # the last one is of rows that no cut group reads
        scales[left] += _solved(between[np.ix_(left, left)], between[np.ix_(left, gone)].sum(1))
        new[path] = to_leaf(gram.layout, weights * scales[unit][None, :, None])
    return replaced(evidence.params, new)


def solve_weights(evidence: Evidence, keep: Mapping[str, Any]) -> Any:
    """Params whose readers' weights make the outputs from the inputs that stay, by least squares.

    Where the inputs don't say which weights are best, those that are nearest to what they were are taken.
    Source: He et al., ICCV 2017, arXiv 1707.06168 Sec. 3.1 (ii).
    """
    leaves, new = dict(leaf_paths(evidence.params)), {}
    for path, stays in kept_rows(evidence, keep, "input_grams").items():
        gram = wide(evidence.input_grams[path])
        weights = np.array(matrices(gram.layout, leaves[path]))
        for block, matrix in zip(weights, gram.matrix, strict=True):
            block[stays] += _solved(
                matrix[np.ix_(stays, stays)], matrix[np.ix_(stays, ~stays)] @ block[~stays]
            )
        new[path] = to_leaf(gram.layout, weights)
    return replaced(evidence.params, new)


def _contributions(evidence: Evidence) -> dict[str, Any]:
    """Group name -> the inner products of what its channels add to the outputs of all readers, per input."""
    sizes = {group.name: group.size for group in prunable(evidence.groups)}
    return {
        name: sum(_between(one, sizes[name]) / one.found.count[0] for one in found)
        for name, found in readers(evidence, "input_grams").items()
    }


def _between(reader: Reader, size: int) -> Any:
    """(size, size) the sum over inputs and outputs of z_i z_j, z_i what channel i adds to an output."""
    products = (reader.found.matrix * (reader.weights @ reader.weights.swapaxes(1, 2))).sum(0)
    mine = np.flatnonzero(reader.channel >= 0)
    channel = reader.channel[mine]
    one_hot = np.eye(size, dtype=products.dtype)[channel]
    return one_hot.T @ products[mine][:, mine] @ one_hot


def _greedy(between: np.ndarray) -> np.ndarray:
    """Each channel's place in the order of removal, over their number."""
    size = len(between)
    added, open_, place = np.diagonal(between).copy(), np.ones(size, bool), np.zeros(size)
    for k in range(size):
        worst = np.flatnonzero(open_)[np.argmin(added[open_])]
        place[worst], open_[worst] = k / size, False
        added += 2 * between[worst]  # what a channel adds to the sum of squares of those that are gone
    return place


def _entry_penalties(between: np.ndarray) -> np.ndarray:
    """The penalty of the LASSO at which each channel first has a coefficient. 0 for those that never have."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import lars_path_gram
    except ImportError as error:
        raise ValueError(
            "criterion 'channel_lasso' needs scikit-learn: pip install scikit-learn, or take 'thinet'"
        ) from error
    with warnings.catch_warnings():  # nearly equal channels are left out of the path, and have 0
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, path = lars_path_gram(
            between.sum(1), between.copy(), n_samples=1, method="lasso", copy_Gram=False
        )
    first = np.argmax(path != 0, axis=1)
    return np.where((path != 0).any(1), penalties[np.maximum(first - 1, 0)], 0.0)


def _units(evidence: Evidence, keep: Mapping[str, Any], path: str) -> np.ndarray:
    """A number for each channel of a cut group that a kernel's rows read, -1 for other rows."""
    layout, start = evidence.input_grams[path].layout, 0
    unit = np.full(layout.sizes[1], -1)
    for group in evidence.groups:
        if len(keep.get(group.name, range(group.size))) == group.size:
            continue
        for member in group.members:
            rows = channels_of_rows(layout, member.axis, member.index) if member.path == path else None
            if rows is not None:
                unit = np.where(rows >= 0, start + rows, unit)
        start += group.size
    return unit


def _solved(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The shortest solution of a symmetric system. Directions below float32's rounding are left alone."""
    if not len(left):
        return right
    rounding = len(left) * float(np.finfo(np.float32).eps)
    return np.linalg.lstsq(left, right, rcond=rounding)[0]
