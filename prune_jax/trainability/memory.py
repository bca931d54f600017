"""How much memory a measurement takes, known before any work is done: read off the jaxprs of its programs."""

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# Copies of the Jacobian while it is solved: as pulled back, scaled, and what is solved of it.
COPIES = 3
# Bytes up to which the largest activation's gradients of one chunk run at full speed on a CPU: above, those of
# ResNet-20 and ResNet-56 took 20 % to 40 % longer (cache), below nothing was gained.
CACHED = 2 * 2**20
# Bytes that nothing running JAX is short of: the system is not asked, which takes as long as measuring an MLP.
LITTLE = 2**24
# What XLA gives memory of its own, and reads as a whole. Anything else writes over an operand that isn't used again.
_APART = ("concatenate", "conv_general_dilated", "dot_general", "select_and_scatter_add", "transpose")
# What it doesn't store, unless it is read as a whole.
_SPREAD = ("broadcast_in_dim", "iota")
_LOOPS = ("scan", "while")  # whose body writes beside what it carries


class Live(NamedTuple):
    """Bytes of a program beside its arguments, with its results: held all along, and at most at once of what moves."""

    kept: int
    moving: int


class Need(NamedTuple):
    """Bytes that measuring a ``batch`` takes: ``fixed + chunk * per_cotangent``, but ``least`` in any case.

    ``activation``: bytes of one cotangent's gradients of the largest activation.
    """

    fixed: int
    per_cotangent: int
    activation: int
    batch: int
    least: int = 0

    def of(self, chunk: int) -> int:
        """Bytes for ``chunk`` cotangents at once."""
        return max(self.least, self.fixed + chunk * self.per_cotangent)


def live(traced: Any, moving: Iterable[int]) -> Live:
    """What XLA allots to a traced program, within a factor of 2. ``moving``: numbers of the arguments that vary.

    Each value lives from where it is made to its last use. What doesn't depend on a ``moving`` argument, such as
    kernels turned round for a transposed convolution, XLA:CPU makes first and holds.
    """
    jaxpr = traced.jaxpr.jaxpr
    return _live(jaxpr, tuple(n % len(jaxpr.invars) for n in moving))


@functools.lru_cache(maxsize=256)  # a memo of a pure function: an instrument asks for the same programs again
def _live(jaxpr: Jaxpr, moving: tuple[int, ...]) -> Live:
    moves, last, read = _uses(jaxpr, moving)
    freed = [0] * (len(jaxpr.eqns) + 1)
    kept = along = now = most = 0
    for number, eqn in enumerate(jaxpr.eqns):
        inner, inside, indices = _inside(eqn, moves)
        kept, along, made = kept + inner, along + indices, 0
        for var in eqn.outvars:
            size = _bytes(var) if eqn.primitive.name not in _SPREAD or var in read else 0
            if var in moves:
                made += size
                freed[last.get(var, number)] += size
            else:
                kept += size
        over = inside or eqn.primitive.name in _APART
        most = max(most, now + inside + (made if over else max(0, made - freed[number])))
        now += made - freed[number]
    return Live(kept, most + along)


def _uses(jaxpr: Jaxpr, moving: tuple[int, ...]) -> tuple[set[Any], dict[Any, int], set[Any]]:
    """Values that depend on the arguments number ``moving``. Each one's last use. Those that are read as a whole."""
    last: dict[Any, int] = {}
    moves, read = {jaxpr.invars[number] for number in moving}, set(_vars(jaxpr.outvars))
    for number, eqn in enumerate(jaxpr.eqns):
        used = _vars(eqn.invars)
        if moves.intersection(used) or eqn.primitive.name in _SPREAD:
            moves.update(eqn.outvars)
        if eqn.primitive.name in _APART or _inner(eqn.params.values()):
            read.update(var for var in used if getattr(var.aval, "size", 0) > 1)
        last |= dict.fromkeys(used, number)
    return moves, last | dict.fromkeys(_vars(jaxpr.outvars), len(jaxpr.eqns)), read


def _vars(found: Iterable[Any]) -> list[Any]:
    return [var for var in found if not isinstance(var, Literal)]


def _inside(eqn: Any, moves: set[Any]) -> tuple[int, int, int]:
    """Bytes of one equation beside what it gives: held all along, at once, and of indices that are made first."""
    if eqn.primitive.name == "select_and_scatter_add":  # XLA:CPU looks up each window's place by indices
        source, operand = (var.aval for var in eqn.invars)
        return 0, 2 * 4 * source.ndim * source.size, 4 * operand.ndim * operand.size
    found = []
    for inner in _inner(eqn.params.values()):
        pairs = zip(reversed(range(len(inner.invars))), reversed(eqn.invars), strict=False)
        lives = _live(inner, tuple(n for n, var in pairs if not isinstance(var, Literal) and var in moves))
        given = 0 if eqn.primitive.name in _LOOPS else sum(map(_bytes, inner.outvars))
        found.append((lives.kept, max(0, lives.moving - given)))
    return sum(kept for kept, _ in found), max([most for _, most in found], default=0), 0


def _inner(params: Iterable[Any]) -> list[Jaxpr]:
    flat = [p for param in params for p in (param if isinstance(param, tuple | list) else (param,))]
    return [p.jaxpr if isinstance(p, ClosedJaxpr) else p for p in flat if isinstance(p, ClosedJaxpr | Jaxpr)]


def _bytes(var: Any) -> int:
    return size_of([var.aval])


def size_of(leaves: Iterable[Any]) -> int:
    """Bytes of arrays, or of what has their shapes and dtypes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves if hasattr(leaf, "shape"))


def fitting_chunk(wanted: int | None, outputs: int, cost: Need, available: int, cached: bool = True) -> int:
    """Cotangents to pull back at once: ``wanted``, or as many as memory and, if ``cached``, a CPU's cache take.

    That default divides ``outputs``, so that one program serves all chunks. Raises ValueError when memory
    doesn't hold the chunk wanted, or not a single cotangent. Names what would fit.
    """
    if cost.of(1) > available:
        what = f"the Jacobians of {cost.batch} examples with {outputs} outputs need about {gib(cost.of(1))}"
        raise ValueError(
            _refusal(f"{what} even with chunk=1", cost.of(1), available, cost.batch, "a matrix-free estimate")
        )
    room = (available - cost.fixed) // cost.per_cotangent
    if wanted is not None and (chunk := min(wanted, outputs)) > room:
        needed = f"chunk={wanted} needs about {gib(cost.of(chunk))} and {gib(available)} are available"
        raise ValueError(f"{needed}: use chunk={room} or less")
    if wanted is not None:
        return min(wanted, outputs)
    cached = cached and jax.default_backend() == "cpu"
    limit = min(room, max(1, CACHED // cost.activation)) if cached else room
    return max(d for d in range(1, outputs + 1) if outputs % d == 0 and d <= limit)


def vectors_at_once(needed: Need) -> int:
    """Vectors for each example that memory takes through a network at once. ValueError for none."""
    room = available()
    if needed.of(1) > room:
        what = f"a product with the Jacobians of {needed.batch} examples needs about {gib(needed.of(1))}"
        raise ValueError(_refusal(what, needed.of(1), room, needed.batch))
    return (room - needed.fixed) // needed.per_cotangent


def refuse_if_kept(numbers: int, itemsize: int, examples: int, what: str) -> None:
    """ValueError where ``numbers`` for each of the ``examples``, kept by ``what``, are more than memory takes."""
    needed = numbers * itemsize * examples
    if needed > (room := room_for(needed)):
        what = f"{what} of {examples} examples needs about {gib(needed)}"
        raise ValueError(_refusal(what, needed, room, examples, "a smaller budget"))


def _refusal(what: str, needed: int, room: int, examples: int, otherwise: str = "") -> str:
    fits = examples * room // needed
    way = f"batches of {fits}" if fits else "fewer outputs or smaller inputs, as not one example fits"
    return f"{what} and {gib(room)} are available: use {way}" + (f", or {otherwise}" if otherwise else "")


def room_for(needed: int) -> int:
    """``available()``, which isn't asked where nothing is short of what is needed."""
    return available() if needed > LITTLE else needed


def available() -> int:
    """Bytes that the default device can still give. On CPU what the system, or its container, has left."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    found = [_meminfo(), _container()]
    return min([size for size in found if size is not None], default=2**62)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), None)


def _container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((group / "memory.current").read_text())
    except OSError:
        return None


def gib(size: int) -> str:
    """A number of bytes as messages say it."""
    return f"{size / 2**30:.3g} GiB"
