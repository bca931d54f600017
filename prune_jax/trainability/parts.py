"""The instruments on a part of a network, from stage to stage, to see where trainability is lost."""

import functools
import inspect
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.extend import core

from prune_jax.nearest import unknown
from prune_jax.trainability.checks import check_finite
from prune_jax.trainability.jacobian import jacobian_singular_values
from prune_jax.trainability.passes import Apply

Stage = tuple[str, Callable[[jax.Array], jax.Array]]
Measure = Callable[[Apply, jax.Array], Any]
Call = Callable[[nnx.Module, jax.Array], Any]


class Part(NamedTuple):
    """A part of a network at a batch: what every instrument takes, so ``jacobian_singular_values(*part)``.

    apply: ``(batch, ...) -> (batch, K)``, the part's outputs flattened per example.
    x: ``(batch, ...)``, what enters the part when the network sees the batch.
    """

    apply: Apply
    x: jax.Array


class StageMeasure(NamedTuple):
    """One measurement of a stage alone, and of everything from the network's input to its end."""

    stage: Any
    cumulative: Any


def stage_part(
    stages: Sequence[Stage], x: jax.Array, source: str | None = None, target: str | None = None
) -> Part:
    """The part of a network from behind one stage through another.

    Args:
        stages: ``(name, function)`` pairs whose composition is the network. Each maps (batch, ...) to (batch, ...) and
            treats examples independently.
        x: a batch of the network's inputs.
        source: the stage that the part begins behind. None: the part begins at the input.
        target: the stage that it ends with. None: the last one.

    Returns:
        A ``Part``.

    Raises:
        ValueError: for no stages, a repeated or unknown name (the nearest one is named), or a target that doesn't come
            behind its source.

    Example:
        >>> part = stage_part([("double", lambda x: 2 * x), ("cut", lambda x: x[:, :2])], jnp.ones((1, 3)), "double")
        >>> part.x.tolist(), part.apply(part.x).tolist()
        ([[2.0, 2.0, 2.0]], [[2.0, 2.0]])
    """
    names = _names(stages)
    for name in (source, target):
        if name is not None and name not in names:
            raise ValueError(unknown("stage", name, names, most=3))
    start = 0 if source is None else names.index(source) + 1
    stop = len(names) if target is None else names.index(target) + 1
    if start >= stop:
        raise ValueError(
            f"stage {target or names[-1]!r} doesn't come behind {source!r}; the order is {', '.join(names)}"
        )

    def through(first: int, last: int, v: jax.Array) -> jax.Array:
        return functools.reduce(lambda found, stage: stage[1](found), stages[first:last], v)

    def apply(v: jax.Array) -> jax.Array:
        return _per_example(through(start, stop, v), v.shape[0], names[stop - 1])

    return Part(apply, through(0, start, x))


def measure_stages(
    stages: Sequence[Stage], x: jax.Array, *, measure: Measure = jacobian_singular_values
) -> OrderedDict[str, StageMeasure]:
    """Each stage at its own inputs, and everything up to its end.

    By the chain rule an example's Jacobians multiply to the whole. A stage whose values fall is where pruning broke it.

    Args:
        stages, x: as for ``stage_part``.
        measure: ``measure(apply, x)``, any instrument. By default the exact Jacobian singular values, ``(batch,
            min(K, D))`` of a stage with D values in and K out, at K pull-backs: give a matrix-free one for wide
            feature maps.

    Returns:
        ``{stage: (stage, cumulative)}`` in the network's order.

    Raises:
        ValueError: as ``stage_part``.

    Example:
        >>> found = measure_stages([("double", lambda x: 2 * x), ("treble", lambda x: 3 * x)], jnp.ones((1, 1)))
        >>> {name: (float(m.stage[0, 0]), float(m.cumulative[0, 0])) for name, m in found.items()}
        {'double': (2.0, 2.0), 'treble': (3.0, 6.0)}
    """
    return _measured(_names(stages), functools.partial(stage_part, stages, x), measure)


def module_part(
    module: nnx.Module,
    x: jax.Array,
    source: str | None = None,
    target: str | None = None,
    *,
    call: Call | None = None,
) -> Part:
    """The part of an NNX network from the output of one module to the output of another.

    ``apply(a)`` runs the network on x with source's output replaced by ``a``. What goes around source (a shortcut)
    keeps its values, so a Jacobian is the partial one through source (``bypassed`` tells). The module itself is
    left as it is: a copy in evaluation mode runs.

    Args:
        module: the network.
        x: a batch of its inputs.
        source: a path such as ``blocks/3/conv1``. None: the network's input.
        target: a path. None: the network's output.
        call: ``call(copy, x)`` runs the network. By default ``copy(x)``, with ``train=False`` where it takes that.

    Returns:
        A ``Part``.

    Raises:
        ValueError: for an unknown path (the nearest are named), one that this call doesn't run exactly once, a
            target that runs before its source, outputs that aren't one array with the examples on axis 0, weights
            that aren't finite (by leaf), or a module inside a transform of the network's own (nnx.jit, nnx.remat,
            nnx.scan), whose values can't be had outside.

    Example:
        >>> net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
        >>> part = module_part(net, jnp.ones((5, 4)), source="layers/0")
        >>> part.x.shape, part.apply(part.x).shape
        ((5, 3), (5, 2))
    """
    if source is not None and source == target:
        raise ValueError(f"source and target are both {source!r}; a part goes from one to another")
    run = _runner(module, [path for path in (source, target) if path is not None], call)
    entering = x if source is None else run(x, source)
    if source is not None:
        _per_example(entering, x.shape[0], source)

    def apply(a: jax.Array) -> jax.Array:
        out = run(a, target) if source is None else run(x, target, (source, a))
        return _per_example(out, x.shape[0], target or "the network")

    return Part(apply, entering)


def module_input(module: nnx.Module, x: jax.Array, path: str, *, call: Call | None = None) -> Any:
    """What enters a module on a batch, the first positional argument of its call: of a head, the penultimate features.

    Args:
        module, x, call: as for ``module_part``.
        path: the module's.

    Returns:
        What entered, usually an array ``(batch, ...)``.

    Raises:
        ValueError: as ``module_part``.

    Example:
        >>> net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
        >>> module_input(net, jnp.ones((5, 4)), "layers/1").shape
        (5, 3)
    """
    return _runner(module, [path], call)(x, path, entering=True)


def measure_modules(
    module: nnx.Module,
    x: jax.Array,
    paths: Sequence[str],
    *,
    measure: Measure = jacobian_singular_values,
    call: Call | None = None,
) -> OrderedDict[str, StageMeasure]:
    """The instruments from the output of each module to that of the next, and from the input to each.

    Where every path is a bottleneck (``bypassed`` is False, as for the blocks of a residual network), Jacobians of
    stages multiply to the whole. Between others the shortcuts are in the cumulative one alone.

    Args:
        module, x, call: as for ``module_part``.
        paths: modules in the order in which they run. The first stage starts at the input.
        measure: as for ``measure_stages``.

    Returns:
        ``{path: (stage, cumulative)}`` in the order of ``paths``.

    Raises:
        ValueError: for no paths, and as ``module_part``.

    Example:
        >>> net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
        >>> found = measure_modules(net, jnp.ones((5, 4)), ["layers/0", "layers/1"])
        >>> {path: (m.stage.shape, m.cumulative.shape) for path, m in found.items()}
        {'layers/0': ((5, 3), (5, 3)), 'layers/1': ((5, 2), (5, 2))}
    """
    if not paths:
        raise ValueError("no paths: name the modules, such as 'blocks/0'")
    return _measured(paths, functools.partial(module_part, module, x, call=call), measure)


def bypassed(
    module: nnx.Module, x: jax.Array, source: str, target: str | None = None, *, call: Call | None = None
) -> bool:
    """Whether something goes around a module: the output depends on x with the module's output held fixed.

    Read off the jaxpr, no FLOP is spent. A dependence that happens to be zero counts.

    Args:
        module, x, call: as for ``module_part``.
        source: the module that may be gone around.
        target: the module whose output is looked at. None: the network's.

    Returns:
        A bool.

    Raises:
        ValueError: as ``module_part``.

    Example:
        >>> net = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
        >>> bypassed(net, jnp.ones((5, 4)), "layers/0")
        False
    """
    run = _runner(module, [path for path in (source, target) if path is not None], call)
    inside = jax.eval_shape(lambda v: run(v, source), x)
    jaxpr = jax.make_jaxpr(lambda v, a: run(v, target, (source, a)))(x, inside).jaxpr
    reached = {jaxpr.invars[0]}

    def meets(variables: Sequence[Any]) -> bool:
        return any(not isinstance(v, core.Literal) and v in reached for v in variables)

    for equation in jaxpr.eqns:
        if meets(equation.invars):
            reached.update(equation.outvars)
    return meets(jaxpr.outvars)


def _measured(
    names: Sequence[str], part: Callable[..., Part], measure: Measure
) -> OrderedDict[str, StageMeasure]:
    """Of each name: ``measure`` of the part from the name before to it, and from the input to it."""
    out: OrderedDict[str, StageMeasure] = OrderedDict()  # keeps the order through jit, a dict is sorted
    for before, name in zip([None, *names[:-1]], names, strict=True):
        out[name] = StageMeasure(measure(*part(before, name)), measure(*part(None, name)))
    return out


def _per_example(values: Any, batch: int, name: str) -> jax.Array:
    """``(batch, K)``: one array flattened per example. ValueError naming what else came out of ``name``."""
    if not isinstance(values, jax.Array):
        raise ValueError(
            f"{name!r} gives a {type(values).__name__} of {len(jax.tree.leaves(values))} arrays; a Jacobian needs "
            "one array"
        )
    if values.ndim < 2 or values.shape[0] != batch:
        raise ValueError(
            f"{name!r} gives shape {values.shape} for {batch} examples; axis 0 must be the examples, with "
            "at least one more axis"
        )
    return values.reshape(batch, -1)


def _names(stages: Sequence[Stage]) -> list[str]:
    names = [name for name, _ in stages]
    if not names:
        raise ValueError("no stages: give (name, function) pairs whose composition is the network")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"stage names must differ, {', '.join(map(repr, repeated))} came more than once")
    return names


def _runner(module: nnx.Module, paths: Sequence[str], call: Call | None) -> Callable[..., Any]:
    """run(x, record, replaced): what the module ``record`` (None: the network) gave, or what entered it.

    ``replaced``: a path, and what the module there gives in the place of its own output.
    """
    known = [path for path, found in _modules(module).items() if callable(found)]
    for path in paths:
        if path not in known:
            raise ValueError(unknown(f"module of {type(module).__name__}", path, known, most=3))
    check_finite(nnx.to_pure_dict(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))))
    graphdef, state = nnx.split(module)
    takes_train = call is None and "train" in inspect.signature(type(module).__call__).parameters
    forward = call or (lambda net, x: net(x, train=False) if takes_train else net(x))

    def run(
        x: jax.Array, record: str | None, replaced: tuple[str, Any] | None = None, *, entering: bool = False
    ) -> Any:
        net = nnx.merge(graphdef, state, copy=True)
        net.eval()
        around, calls, found = _around(record, replaced, entering)
        for path, does in around.items():
            _surround(_modules(net)[path], does)
        out = forward(net, x)
        for path in around:
            if calls[path] != 1:
                raise ValueError(
                    f"module {path!r} runs {calls[path]} times in this call; a part needs a module that runs once"
                )
        return out if record is None else found[0]

    return run


def _around(
    record: str | None, replaced: tuple[str, Any] | None, entering: bool
) -> tuple[dict[str, Callable[..., Any]], Counter, list[Any]]:
    """What goes round the modules' calls. Each module's count of them, and what ``record`` gave or was given."""
    source, value = replaced or (None, None)
    outside, calls, found = _trace(), Counter[str | None](), list[Any]()

    def give(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls[source] += 1
        return value

    def take(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if _trace() != outside:
            raise ValueError(
                f"module {record!r} runs inside a transform of the network's own (nnx.jit, nnx.remat, nnx.scan, ...), "
                "which keeps its values: name the module around that transform"
            )
        out = own(*args, **kwargs)
        if source is not None and not calls[source]:  # after the call: the source may lie inside
            raise ValueError(f"module {record!r} runs before the source of this part: swap source and target")
        calls[record] += 1
        found.append(args[0] if entering else out)
        return out

    pairs = ((source, give), (record, take))
    return {path: does for path, does in pairs if path is not None}, calls, found


def _trace() -> Any:
    return core.get_opaque_trace_state(convention="nnx")


def _surround(module: nnx.Module, around: Callable[..., Any]) -> None:
    """Calls of the module go to ``around(its own bound call, *arguments)``, which gives what the caller gets."""
    # past NNX's own bookkeeping: this copy is ours, and its structure stays as it is
    object.__setattr__(module, "_around", around)
    object.__setattr__(module, "__class__", _surrounded(type(module)))


@functools.cache  # a memo of a pure function: NNX registers every class that is made, once is enough
def _surrounded(cls: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._around(functools.partial(cls.__call__, self), *args, **kwargs)

    return type(cls)(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})


def _modules(module: nnx.Module) -> dict[str, nnx.Module]:
    return {"/".join(map(str, path)): found for path, found in nnx.iter_modules(module) if path}
