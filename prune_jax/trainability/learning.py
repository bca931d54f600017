"""How a network learns: its empirical neural tangent kernel on a batch, and the flow along its loss's gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from prune_jax.trainability import checks, memory
from prune_jax.trainability.checks import at_least_float32, check_whole
from prune_jax.trainability.features import rounding_noise
from prune_jax.trainability.krylov import TopEigenvalues, top_eigenvalues
from prune_jax.trainability.operators import Estimate, mean_of_scaled, scaled_squares
from prune_jax.trainability.passes import passes, solve

ApplyParams = Callable[[Any, jax.Array], jax.Array]
Kernel = Literal["full", "trace"]
Loss = Callable[[Any], jax.Array]


class NTKSpectrum(NamedTuple):
    """Eigenvalues of a kernel, (n,) descending, and what follows from them, scalars.

    rank: eigenvalues that are resolved, above the rounding noise (int32). The others are known to be below, and no
    more. condition: the largest over the smallest resolved one, NaN where none is. trace: sum of all. Where the kernel
    isn't finite, which only inside a ``jit`` isn't refused, rank is -1 and the others NaN.
    """

    eigenvalues: jax.Array
    rank: jax.Array
    condition: jax.Array
    trace: jax.Array


def ntk_matrix(
    apply: ApplyParams, params: Any, x: jax.Array, *, kernel: Kernel = "full", check: bool = True
) -> jax.Array:
    """Empirical neural tangent kernel of a network on a batch.

    Costs N K pull-backs of one example, and memory for N K times the number of params. For large problems take
    ``ntk_trace`` and ``ntk_top``.

    Args:
        apply: ``apply(params, x)`` gives ``(N, K)`` and treats examples independently. Batch statistics are no params:
            bind them, ``lambda p, x: network.apply({'params': p, 'batch_stats': stats}, x)``.
        params: a pytree of floating weights.
        x: ``(N, ...)``.
        kernel: 'full' for Θ = J Jᵀ with J the Jacobian of all N K outputs in the params. 'trace' for the mean of Θ's K
            diagonal output blocks, whose trace is that of Θ over K.
        check: look for examples that depend on one another.

    Returns:
        ``(N K, N K)``, with output k of example n at n K + k. For 'trace' ``(N, N)``. In float32 or wider.

    Raises:
        ValueError: for bad weights, by leaf, an empty batch, outputs not of rank 2 and floating, more memory than
            there is (before any work), and, outside a ``jit``, images or a kernel not finite.

    Example:
        >>> ntk_matrix(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 0.0], [1.0, 2.0]])).tolist()
        [[1.0, 1.0], [1.0, 5.0]]

    Source: Jacot et al., 2018, arXiv 1806.07572. 'trace': Novak et al., 2022, arXiv 2206.08720, there not over K.
    """
    features = _features(apply, params, x, kernel, check)
    return _finite(jnp.einsum("ip,jp->ij", features, features, precision=jax.lax.Precision.HIGHEST))


def ntk_spectrum(
    apply: ApplyParams,
    params: Any,
    x: jax.Array,
    *,
    kernel: Kernel = "full",
    rtol: float | None = None,
    check: bool = True,
) -> NTKSpectrum:
    """All eigenvalues of ``ntk_matrix``, with rank, condition number and trace.

    They are the squared singular values of J, which keeps eigenvalues that a Gram matrix would lose. The condition
    number bounds how much slower the slowest direction learns.

    Args:
        apply, params, x, kernel, check: as for ``ntk_matrix``.
        rtol: share of J's largest singular value above which one is resolved. By default what rounding explains
            isn't: n eps of the largest in the format of this computation, or eps ||J||_F in the coarsest one that
            the network uses.

    Returns:
        An ``NTKSpectrum``.

    Raises:
        ValueError: as ``ntk_matrix``, and for an ``rtol`` outside [0, 1).

    Example:
        >>> found = ntk_spectrum(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 0.0], [0.0, 2.0]]))
        >>> np.round(found.eigenvalues, 4).tolist(), int(found.rank)
        ([4.0, 1.0], 2)
    """
    checks.check_share("rtol", rtol)
    features = _features(apply, params, x, kernel, check)
    rows = len(features)
    values = _finite(solve([features[:, None]], None, count=rows, method="svd")[0])
    return _described(values, rtol, checks.computed_in(lambda p: apply(p, x), params))


@partial(jax.jit, static_argnames=("rtol", "came"))
def _described(values: jax.Array, rtol: float | None, came: Any) -> NTKSpectrum:
    """The spectrum of a kernel F Fᵀ from the singular values of F, which came in this format."""
    noise = rounding_noise(values[0], jnp.linalg.norm(values), len(values), came)
    resolved = values > (noise if rtol is None else rtol * values[0])
    smallest = jnp.min(jnp.where(resolved, values, jnp.inf))
    eigenvalues = jnp.square(values)
    condition = jnp.where(resolved.any(), jnp.square(values[0] / smallest), jnp.nan)
    rank = jnp.where(jnp.isnan(values[0]), -1, resolved.sum()).astype(jnp.int32)
    return NTKSpectrum(eigenvalues, rank, condition, eigenvalues.sum())


def ntk_product(
    apply: ApplyParams, params: Any, x: jax.Array, *, check: bool = True
) -> tuple[Callable, jax.ShapeDtypeStruct]:
    """The full kernel as a product v -> Θ v: a pull-back and a push-forward of the whole batch.

    The forward pass is made once, here. What it leaves is held.

    Args:
        apply, params, x, check: as for ``ntk_matrix``.

    Returns:
        The product, and the shape and dtype of v, ``(N, K)``.

    Raises:
        ValueError: as ``ntk_matrix``.

    Example:
        >>> product, outputs = ntk_product(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.array([[1.0, 0.0], [1.0, 2.0]]))
        >>> product(jnp.ones(outputs.shape)).tolist()
        [[2.0], [6.0]]
    """
    pull, push, outputs = _linearised(apply, params, x, check)
    return lambda v: at_least_float32(push(pull(v))), outputs


def ntk_trace(
    apply: ApplyParams, params: Any, x: jax.Array, key: jax.Array, *, probes: int, check: bool = True
) -> Estimate:
    """The full kernel's trace, estimated: the mean of norm(Jᵀ v)² over random signs v.

    Θ's off-diagonal part makes the error. Divide by K for the 'trace' kernel.

    Args:
        apply, params, x, check: as for ``ntk_matrix``.
        key: of the signs.
        probes: how many. Each is a pull-back of the whole batch, counted as one.

    Returns:
        An ``Estimate`` of scalars, with the sample's standard error.

    Raises:
        ValueError: for fewer than 2 probes, and as ``ntk_matrix``.

    Example:
        >>> linear, x = lambda w, x: x @ w, jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> float(ntk_trace(linear, jnp.ones((2, 1)), x, jax.random.key(0), probes=2).value)
        5.0

    Source: Hutchinson, 1990.
    """
    probes = check_whole("probes", probes)
    if probes < 2:
        raise ValueError(f"a standard error needs at least 2 probes, got {probes}")
    pull, _, outputs = _linearised(apply, params, x, check)

    def squared(probe_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        signs = jax.random.rademacher(probe_key, outputs.shape, outputs.dtype)
        return scaled_squares([at_least_float32(leaf) for leaf in jax.tree.leaves(pull(signs))], None)

    found = zip(*[squared(probe_key) for probe_key in jax.random.split(key, probes)], strict=True)
    value, error = mean_of_scaled(*(jnp.stack(part) for part in found))
    return Estimate(_finite(value), error, probes)


def ntk_top(
    apply: ApplyParams,
    params: Any,
    x: jax.Array,
    key: jax.Array,
    *,
    count: int,
    steps: int,
    check: bool = True,
) -> TopEigenvalues:
    """The ``count`` largest eigenvalues of the full kernel, with bounds on their errors.

    Block Lanczos. A block of ``count`` vectors finds an eigenvalue as often as it occurs, up to ``count`` times.

    Args:
        apply, params, x, check: as for ``ntk_matrix``.
        key: of the random start.
        count: eigenvalues wanted.
        steps: products of a block. Each of the ``count * steps`` is a pull-back and a push-forward.

    Returns:
        A ``TopEigenvalues``.

    Raises:
        ValueError: when ``count * steps`` exceeds N K, and as ``ntk_matrix``.

    Example:
        >>> linear, x = lambda w, x: x @ w, jnp.array([[1.0, 0.0], [0.0, 2.0]])
        >>> found = ntk_top(linear, jnp.ones((2, 1)), x, jax.random.key(0), count=1, steps=2)
        >>> np.round(found.values, 3).tolist()
        [4.0]
    """
    count, steps = check_whole("count", count), check_whole("steps", steps)
    product, outputs = ntk_product(apply, params, x, check=check)

    def operator(rows: jax.Array) -> jax.Array:
        # one after another: under vmap the push-forward's weights would get a batch axis
        return jnp.stack([product(v.reshape(outputs.shape)).reshape(-1) for v in rows])

    size, dtype = outputs.shape[0] * outputs.shape[1], jnp.promote_types(outputs.dtype, jnp.float32)
    found = top_eigenvalues(operator, size, key, count=count, steps=steps, dtype=dtype)
    _finite(found.values)
    return found


def _linearised(
    apply: ApplyParams, params: Any, x: jax.Array, check: bool
) -> tuple[Callable[[jax.Array], Any], Callable[[Any], jax.Array], jax.ShapeDtypeStruct]:
    """Jᵀ v as a pytree like ``params`` and J w of one, v and J w like the outputs, whose shape and dtype come too."""
    outputs = _check(apply, params, x, check)
    network = passes(lambda p: apply(p, x))
    pull_back = network.forward(params, None, narrow=False).pull_back

    def pull(v: jax.Array) -> Any:
        pulled = network.pull(pull_back, v.astype(outputs.dtype)[None], 0, step=1, batch=None)
        return jax.tree.map(lambda leaf: leaf[0], pulled)

    def push(w: Any) -> jax.Array:
        return network.push(pull_back, jax.tree.map(lambda leaf: leaf[None], w), like=outputs)[0]

    return pull, push, outputs


def _features(apply: ApplyParams, params: Any, x: jax.Array, kernel: Kernel, check: bool) -> jax.Array:
    """The matrix F with kernel = F Fᵀ: J itself, or its outputs side by side over the root of K."""
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel {kernel!r} is none of {', '.join(map(repr, get_args(Kernel)))}")
    examples, outputs = _check(apply, params, x, check).shape

    def one(p: Any, example: jax.Array) -> jax.Array:
        return apply(p, example[None])[0]

    @jax.jit
    def features(p: Any, x: jax.Array) -> jax.Array:
        by_leaf = jax.vmap(jax.jacrev(one), (None, 0))(p, x)
        rows = [at_least_float32(leaf).reshape(examples * outputs, -1) for leaf in jax.tree.leaves(by_leaf)]
        found = jnp.concatenate(rows, axis=1)
        return found if kernel == "full" else found.reshape(examples, -1) / outputs**0.5

    _refuse_too_large(features.trace(params, x), examples, outputs)
    return features(params, x)


def _check(apply: ApplyParams, params: Any, x: jax.Array, check: bool) -> jax.ShapeDtypeStruct:
    checks.check_weights(params)
    if x.ndim < 1 or x.shape[0] == 0:
        raise ValueError(f"x has shape {x.shape}; the kernel needs at least one example along axis 0")
    outputs = jax.eval_shape(apply, params, x)
    checks.check_logits(outputs, len(x))
    if check:
        checks.check_independent(apply, x, params)
    if checks.known_broken(x):
        checks.check_measured(x.reshape(len(x), -1), apply, "input")
    return jax.ShapeDtypeStruct(outputs.shape, outputs.dtype)


def _finite(values: jax.Array) -> jax.Array:
    """The values. ValueError where they are not finite."""
    if checks.known_broken(values):
        raise ValueError(
            "the kernel holds NaN or infinity though weights and images don't: activations or gradients overflow"
        )
    return values


def _refuse_too_large(traced: Any, examples: int, outputs: int) -> None:
    """ValueError where what the backward pass holds, or J and its copies in an SVD, don't fit memory."""
    needed = max(sum(memory.live(traced, [-1])), memory.COPIES * memory.size_of([traced.out_info]))
    if needed > (room := memory.room_for(needed)):
        raise ValueError(
            f"the kernel of {examples} examples with {outputs} outputs needs about {memory.gib(needed)} and "
            f"{memory.gib(room)} are available: take {examples * room // needed} examples, or ntk_trace and ntk_top"
        )


class GradientFlow(NamedTuple):
    """Scalars of one loss at one point.

    norm: ||g||. flow: g^T g, the rate -dL/dt at which the loss falls under gradient flow d(params)/dt = -g.
    curvature: g^T H g. Along the flow, d(g^T g)/dt = -2 g^T H g.
    """

    norm: jax.Array
    flow: jax.Array
    curvature: jax.Array


def gradient_flow(loss: Loss, params: Any) -> GradientFlow:
    """Gradient norm, gradient flow g^T g and g^T H g of a loss, H its Hessian.

    To first order a perturbation d of the weights changes g^T g by 2 d^T H g. GraSP prunes by d = -weights. H is never
    formed: a gradient and a Hessian-vector product cost about four forward and backward passes of the loss.

    Args:
        loss: ``loss(params)`` gives a scalar.
        params: a pytree of floating weights.

    Returns:
        A ``GradientFlow``. Products accumulate in float32 or wider.

    Raises:
        ValueError: for a loss that is not a scalar, and for a leaf that is not floating or (outside a ``jit``) not
            finite.

    Example:
        >>> found = gradient_flow(lambda w: jnp.sum(w**2), jnp.array([3.0, 0.0]))
        >>> float(found.norm), float(found.flow), float(found.curvature)
        (6.0, 36.0, 72.0)

    Source: Wang et al., 2020, arXiv 2002.07376.
    """
    checks.check_weights(params)
    slope = jax.grad(_scalar(loss))
    gradient = slope(params)
    product = jax.jvp(slope, (params,), (gradient,))[1]
    flow = _dot(gradient, gradient)
    return GradientFlow(jnp.sqrt(flow), flow, _dot(gradient, product))


def hessian_vector_product(loss: Loss, params: Any, vector: Any) -> Any:
    """H v for the Hessian H of a loss, by forward over reverse differentiation.

    Args:
        loss, params: as for ``gradient_flow``.
        vector: v, of the same structure, shapes and types.

    Returns:
        A pytree like ``params``.

    Raises:
        ValueError: as ``gradient_flow``, and for a vector of another structure, shape or type.

    Example:
        >>> hessian_vector_product(lambda w: jnp.sum(w**3), jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])).tolist()
        [6.0, 12.0]

    Source: Pearlmutter, 1994.
    """
    checks.check_weights(params)
    kinds = (jax.tree.map(lambda a: f"{jnp.result_type(a)}{list(jnp.shape(a))}", t) for t in (params, vector))
    (needed, structure), (given, other) = map(jax.tree.flatten, kinds)
    if (needed, structure) != (given, other):
        raise ValueError(f"vector holds {given}, but params {needed}: H v needs the same leaves")
    return jax.jvp(jax.grad(_scalar(loss)), (params,), (vector,))[1]


def _scalar(loss: Loss) -> Loss:
    def checked(params: Any) -> jax.Array:
        value = loss(params)
        if jnp.shape(value) != ():
            raise ValueError(f"loss returned shape {jnp.shape(value)}; it must be a scalar: take the mean")
        return value

    return checked


def _dot(a: Any, b: Any) -> jax.Array:
    pairs = [map(at_least_float32, pair) for pair in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return sum((jnp.vdot(*pair, precision="highest") for pair in pairs), start=jnp.zeros(()))
