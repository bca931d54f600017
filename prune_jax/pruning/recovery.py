"""Trainability recovery after the sparsifying action."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

# What a stage of an experiment states. Version 1 factored a square kernel in its other orientation and flattened
# convolutions as (height, width, channel).
VERSION = 2
# Kernels of Flax's attention layers with several axes of inputs or outputs: how many of the axes are inputs.
_ATTENTION = {"query": 1, "key": 1, "value": 1, "out": 2}

Where = Callable[[str, jax.Array], bool]
InputAxes = Callable[[str, jax.Array], int | None]


def is_kernel(path: str, leaf: jax.Array) -> bool:
    """Whether a leaf is a weight matrix or convolution kernel: floating, of rank two or more."""
    del path
    return leaf.ndim >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)


def as_matrix(kernel: jax.Array, *, output_axis: int = -1, input_axes: int | None = None) -> jax.Array:
    """The kernel as the (inputs, outputs) matrix that OrthP sees.

    Args:
        kernel: rank 2 or more. By default outputs are the axis ``output_axis``: -1 for Flax, (*space, channels,
            outputs), and 0 for PyTorch, (outputs, channels, *space).
        input_axes: of a dense layer with several axes: the first so many are inputs, all others outputs.

    Returns:
        (inputs, outputs), same dtype. The inputs of a convolution are in the order channel, row, column.
    """
    return _moved(kernel, output_axis, input_axes)[0]


def orthogonalize(
    kernel: jax.Array, *, gain: float, output_axis: int = -1, input_axes: int | None = None
) -> jax.Array:
    """The kernel's own directions made orthogonal, times ``gain``.

    M, (outputs, inputs), is transposed if it has fewer outputs than inputs, and factored M = QR. Q with the signs of
    R's diagonal replaces M. Directions are kept in their order (Gram-Schmidt), nothing is drawn anew. Rows and
    columns that are zero altogether stay so, and the rest is orthogonalised as the smaller kernel would be.

    Args:
        kernel: rank 2 or more, floating. bfloat16 and float16 are computed in float32.
        gain: that of the activation: 1 for linear, sqrt 2 for ReLU.
        output_axis: as in ``as_matrix``.
        input_axes: as in ``as_matrix``.

    Returns:
        An array of the kernel's shape and dtype. All singular values of what isn't zero are ``gain``.

    Raises:
        ValueError: for a kernel of rank below 2, or one that isn't floating.

    Source: OrthP, arXiv 2301.05219 §5 and its companion code, which doesn't transpose a square M.

    >>> import jax.numpy as jnp
    >>> orthogonalize(jnp.array([[3.0, 4.0], [0.0, 5.0]]), gain=1.0).tolist()  # doctest: +ELLIPSIS
    [[0.6..., 0.8...], [-0.8..., 0.6...]]
    """
    kernel = jnp.asarray(kernel)
    _refuse(kernel, "made orthogonal")
    return _orthogonalized(kernel, gain, output_axis, input_axes)


@partial(jax.jit, static_argnums=(2, 3))
def _orthogonalized(kernel: jax.Array, gain: float, output_axis: int, input_axes: int | None) -> jax.Array:
    matrix, back = _moved(kernel, output_axis, input_axes)
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
    return back((gain * _isometry(matrix.T.astype(wide)).T).astype(kernel.dtype))


def orthp(
    params: Any,
    *,
    gain: float,
    output_axis: int = -1,
    where: Where = is_kernel,
    mask: Any = None,
    input_axes: InputAxes | None = None,
) -> Any:
    """OrthP: every kernel that ``where`` picks is orthogonalised. Other leaves stay as they are.

    A grouped or depthwise convolution's kernel can't be told from another by its shape. It is flattened like any
    other, (outputs, inputs of its group x height x width), as in the companion code: that isn't the map from image to
    image. Leave such kernels out by ``where`` where this isn't wanted.

    Args:
        params: any pytree of arrays. Paths read like ``layers/0/kernel``.
        gain: that of the activation: 1 for linear, sqrt 2 for ReLU.
        output_axis: -1 for Flax's layout, 0 for PyTorch's.
        where: ``where(path, leaf)`` picks leaves. By default it picks floating ones of rank two or more.
        mask: a pytree like ``params``, 0 where a weight is pruned. Channels without weights are left out of the
            factorisation. Single weights are put back to zero after it, and the kernel is orthogonal but for them.
        input_axes: ``input_axes(path, leaf)`` is how many leading axes of a dense kernel are inputs, None for
            a matrix or a convolution. By default the kernels of Flax's attention, and those beside a bias of
            several axes (DenseGeneral), are taken as the map that the layer computes.

    Returns:
        A pytree like ``params``, same shapes and dtypes. Definition: ``orthogonalize``.

    Raises:
        ValueError: for a picked leaf of rank below 2 or not floating, by its path, and a mask of another structure.

    Example:
        >>> import jax.numpy as jnp
        >>> orthp({"kernel": 3 * jnp.eye(2), "bias": jnp.ones(2)}, gain=1.0)["kernel"].trace().tolist()
        2.0
    """
    change = partial(orthogonalize, gain=gain, output_axis=output_axis)
    return _each_kernel(params, change, where=where, mask=mask, input_axes=input_axes)


def rescale_kernel(
    kernel: jax.Array, *, gain: float, output_axis: int = -1, input_axes: int | None = None
) -> jax.Array:
    """The kernel times one number: the control of ``orthogonalize`` that leaves all directions as they are.

    The root mean square of its singular values becomes ``gain``, where ``orthogonalize`` makes each of them ``gain``.
    The mean is over the smaller side of the kernel, without rows and columns that are zero altogether.

    Args:
        kernel: rank 2 or more, floating.
        gain: as in ``orthogonalize``.
        output_axis: as in ``as_matrix``.
        input_axes: as in ``as_matrix``.

    Returns:
        An array of the kernel's shape and dtype. Zeros where all is zero.

    Raises:
        ValueError: for a kernel of rank below 2, or one that isn't floating.

    >>> import jax.numpy as jnp
    >>> rescale_kernel(jnp.array([[3.0, 4.0], [0.0, 5.0]]), gain=5.0).tolist()
    [[3.0, 4.0], [0.0, 5.0]]
    """
    kernel = jnp.asarray(kernel)
    _refuse(kernel, "rescaled")
    return _rescaled(kernel, gain, output_axis, input_axes)


@partial(jax.jit, static_argnums=(2, 3))
def _rescaled(kernel: jax.Array, gain: float, output_axis: int, input_axes: int | None) -> jax.Array:
    matrix, back = _moved(kernel, output_axis, input_axes)
    wide = matrix.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    side = jnp.minimum((wide != 0).any(0).sum(), (wide != 0).any(1).sum())
    norm = jnp.linalg.norm(wide)
    factor = jnp.where(norm > 0, gain * jnp.sqrt(side) / jnp.where(norm > 0, norm, 1), 0)
    return back((factor * wide).astype(kernel.dtype))


def rescale(
    params: Any,
    *,
    gain: float,
    output_axis: int = -1,
    where: Where = is_kernel,
    mask: Any = None,
    input_axes: InputAxes | None = None,
) -> Any:
    """Every kernel that ``where`` picks times one number each, by ``rescale_kernel``. Other leaves stay as they are.

    What OrthP does beyond it is to make the directions orthogonal.

    Args:
        params: any pytree of arrays, as in ``orthp``.
        gain: the root mean square of a kernel's singular values afterwards.
        output_axis: as in ``orthp``.
        where: as in ``orthp``.
        mask: as in ``orthp``.
        input_axes: as in ``orthp``.

    Returns:
        A pytree like ``params``, same shapes and dtypes.

    Raises:
        ValueError: as ``orthp``.

    >>> import jax.numpy as jnp
    >>> rescale({"kernel": 3 * jnp.eye(2), "bias": jnp.ones(2)}, gain=1.0)["kernel"].trace().tolist()
    2.0
    """
    change = partial(rescale_kernel, gain=gain, output_axis=output_axis)
    return _each_kernel(params, change, where=where, mask=mask, input_axes=input_axes)


def _each_kernel(
    params: Any, change: Callable[..., jax.Array], *, where: Where, mask: Any, input_axes: InputAxes | None
) -> Any:
    """``change`` of every leaf that ``where`` picks, a mask held before and after it."""
    named, structure = jax.tree_util.tree_flatten_with_path(params)
    leaves = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in named}
    masks = [None] * len(leaves) if mask is None else jax.tree.leaves(mask)
    given: Any = structure if mask is None else jax.tree.structure(mask)
    if given != structure:
        raise ValueError("mask has another structure than params: give one array a leaf, 1 where all stays")
    axes = partial(stated_axes, leaves) if input_axes is None else input_axes
    out = []
    for (name, leaf), kept in zip(leaves.items(), masks, strict=True):
        if not where(name, leaf):
            out.append(leaf)
            continue
        try:
            found = change(_held(leaf, kept), input_axes=axes(name, leaf))
        except ValueError as error:
            raise ValueError(f"leaf {name!r}: {error}") from None
        out.append(_held(found, kept))
    return jax.tree_util.tree_unflatten(structure, out)


def _refuse(kernel: jax.Array, what: str) -> None:
    if kernel.ndim < 2 or not jnp.issubdtype(kernel.dtype, jnp.floating):
        raise ValueError(
            f"a kernel of shape {kernel.shape} and dtype {kernel.dtype} can't be {what}: "
            "it needs rank 2 or more and floating values, so leave it out by where="
        )


def _held(leaf: jax.Array, kept: jax.Array | None) -> jax.Array:
    return leaf if kept is None else jnp.where(kept != 0, leaf, jnp.zeros((), leaf.dtype))


def stated_axes(leaves: Mapping[str, jax.Array], path: str, leaf: jax.Array) -> int | None:
    """How many axes of the dense kernel at ``path`` are inputs. None: it is a matrix or a convolution.

    Args:
        leaves: all leaves by path: a bias of several axes beside the kernel (DenseGeneral), or the siblings of
            Flax's attention layers tell.
        path: of the kernel, such as ``attention/query/kernel``.
        leaf: the kernel.
    """
    above = path.rpartition("/")[0]
    bias = getattr(leaves.get(f"{above}/bias" if above else "bias"), "shape", ())
    if 1 < len(bias) < leaf.ndim and leaf.shape[-len(bias) :] == bias:
        return leaf.ndim - len(bias)
    parent, _, layer = above.rpartition("/")
    own = f"{parent}/query/" if parent else "query/"
    attends = layer != "out" or any(name.startswith(own) for name in leaves)
    return _ATTENTION.get(layer) if leaf.ndim == 3 and attends else None


def _moved(
    kernel: jax.Array, output_axis: int, input_axes: int | None
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """(inputs, outputs), and the way back to the kernel's shape."""
    if input_axes is not None:
        rows = math.prod(kernel.shape[:input_axes])
        return kernel.reshape(rows, -1), lambda matrix: matrix.reshape(kernel.shape)
    axis = output_axis % kernel.ndim
    rest = [i for i in range(kernel.ndim) if i != axis]
    if axis == kernel.ndim - 1:  # channels come last in Flax, and first in the matrix
        rest = rest[-1:] + rest[:-1]
    order = (*rest, axis)
    shape = tuple(kernel.shape[i] for i in order)
    undo = tuple(order.index(i) for i in range(kernel.ndim))
    return (
        kernel.transpose(order).reshape(-1, kernel.shape[axis]),
        lambda matrix: matrix.reshape(shape).transpose(undo),
    )


def _isometry(matrix: jax.Array) -> jax.Array:
    """Q of ``matrix`` (outputs, inputs), taller orientation, its rows and columns of zeros left where they are."""
    rows, columns = (matrix != 0).any(1), (matrix != 0).any(0)
    # zeros last: a column of zeros takes a direction of Q, which those behind it would miss
    down, across = jnp.argsort(~rows, stable=True), jnp.argsort(~columns, stable=True)
    dense = matrix[down][:, across]
    turned = lambda m: _signed(m.T).T  # noqa: E731
    found = jax.lax.cond(rows.sum() < columns.sum(), turned, _signed, dense)
    found = jnp.zeros_like(matrix).at[down[:, None], across[None]].set(found)
    return jnp.where(rows[:, None] & columns[None], found, 0)


def _signed(matrix: jax.Array) -> jax.Array:
    """Q times the signs of R's diagonal. Zero columns beside a square."""
    q, r = jnp.linalg.qr(matrix)
    signs = jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0).astype(q.dtype)
    q = q * signs[None]
    return jnp.pad(q, ((0, 0), (0, matrix.shape[1] - q.shape[1])))
