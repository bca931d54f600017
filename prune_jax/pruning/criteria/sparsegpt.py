"""SparseGPT: which weights go by what they cost once the others make up for them, and how these do.

With x the inputs of a kernel, G the sum of x x^T and U^T U the inverse of H = G + damping, everything
follows from U: a row of it says how later inputs' weights change when one weight goes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prune_jax.pruning.criteria.readers import like_leaf, matrices, wide
from prune_jax.pruning.criteria.replacing import replaced
from prune_jax.pruning.criteria.weights import Scores
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.inputs.layout import to_leaf
from prune_jax.pruning.jaxpr.reading import leaf_paths

DAMPING = 0.01  # of the mean of the diagonal, as the paper's code has it
WIDTH = 128  # inputs that are gone through before the others' weights are updated. No result depends on it


def upper_factor(gram: Any, damping: float) -> Any:
    """U with U^T U = H^-1 and H = G + damping mean(diag G) I, of every block. G = 0 counts as I."""
    xp: Any = jnp if isinstance(gram, jax.core.Tracer) else np
    size = gram.shape[-1]
    level = xp.trace(gram, axis1=1, axis2=2)[:, None, None] / size
    hessian = gram + xp.where(level == 0, 1, damping * level) * np.eye(size)[None]
    return xp.linalg.cholesky(xp.linalg.inv(hessian)).swapaxes(1, 2)


def sparsegpt(evidence: Evidence) -> Scores:
    """w ** 2 over the square of U_jj, with U^T U the inverse of H = G + 0.01 mean(diag G) I.

    It is what the outputs' squares lose when the weight goes and those behind it make up for it. All weights of a layer
    are compared before any is changed. (The paper chooses anew for each 128 inputs. For layers of up to 128 inputs that
    is the same.) Kernels whose inputs aren't known have no scores. Source: Frantar and Alistarh, ICML 2023, arXiv
    2301.00774 Algorithm 1.
    """
    leaves, out = dict(leaf_paths(evidence.params)), {}
    for path, gram in evidence.input_grams.items():
        wide_gram = wide(gram)
        factor = upper_factor(wide_gram.matrix, DAMPING)
        xp: Any = jnp if isinstance(factor, jax.core.Tracer) else np
        diagonal = xp.diagonal(factor, axis1=1, axis2=2)[:, :, None]
        weights = matrices(gram.layout, leaves[path])
        out[path] = like_leaf(gram.layout, (weights / diagonal) ** 2, leaves[path])
    return out


def update_remaining(evidence: Evidence, mask: Any) -> Any:
    """Params whose remaining weights make up for those that a mask removes, input by input in the leaf's order.

    When a weight goes, the weights of the same output that read later inputs take the step of the Optimal
    Brain Surgeon: the one that changes the output's squares on the data least. Masked weights are 0.
    Source: Frantar and Alistarh, ICML 2023, arXiv 2301.00774 Algorithm 1.
    """
    leaves, masks = dict(leaf_paths(evidence.params)), dict(leaf_paths(mask))
    new = {}
    for path, gram in evidence.input_grams.items():
        stays = np.broadcast_to(np.asarray(masks[path]) != 0, leaves[path].shape)
        if stays.all():
            continue
        kept, wide_gram = matrices(gram.layout, stays) != 0, wide(gram)
        weights = np.array(matrices(gram.layout, leaves[path]))
        for block, left, factor in zip(weights, kept, upper_factor(wide_gram.matrix, DAMPING), strict=True):
            _swept(block, left, factor)
        new[path] = to_leaf(gram.layout, np.where(kept, weights, 0))
    return replaced(evidence.params, new)


def _swept(weights: np.ndarray, stays: np.ndarray, factor: np.ndarray) -> None:
    """Remove weights (rows, columns) row by row, and update the rows below in place."""
    for start in range(0, len(weights), WIDTH):
        rows = range(start, min(start + WIDTH, len(weights)))
        errors = np.zeros((len(rows), weights.shape[1]))
        for j in rows:
            errors[j - start] = np.where(stays[j], 0, weights[j]) / factor[j, j]
            weights[j : rows.stop] -= np.outer(factor[j, j : rows.stop], errors[j - start])
        weights[rows.stop :] -= factor[start : rows.stop, rows.stop :].T @ errors
