"""What ``prune`` was asked for, checked before any work."""

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from prune_jax import nearest
from prune_jax.pruning.allocation import NORMALISERS
from prune_jax.pruning.criteria.criterion import CHANNELS_ONLY, WEIGHTS_ONLY, name_of, refuse_over
from prune_jax.pruning.criteria.table import CRITERIA, Criterion
from prune_jax.pruning.granularity import GRANULARITIES, cuts_channels
from prune_jax.pruning.layouts.blocks import refuse_bad_block
from prune_jax.pruning.layouts.n_of_m import is_pattern, pattern_of

SCOPES = ("layer", "global", "isomorphic")
FREE = ("inputs", "outputs")


class Asked(NamedTuple):
    """The arguments of ``prune`` that say what goes. See there."""

    ratio: float | Mapping[str, float] | None
    speedup: float | None
    keep: Mapping[str, Any] | None
    criterion: Criterion
    scope: str
    granularity: str
    layers: Any
    at_least: float | int
    round_to: int
    batches: Any
    loss: Callable[..., Any] | None
    key: Any
    masked: bool
    over: str = "producer"
    reduce: str = "mean"
    normalise: str | None = None
    iterations: int = 1
    compensate: bool = True
    block: tuple[int, ...] = (4, 4)
    pad: bool = False


def asked(criterion: Any, granularity: str, **rest: Any) -> Asked:
    """Check the arguments of ``prune``, and put them into one value.

    Raises:
      ValueError: in one line, for the first argument that is wrong.
    """
    if is_pattern(granularity):
        pattern_of(granularity)
    else:
        _choice("granularity", granularity, (*GRANULARITIES, "2:4"))
    found = Asked(criterion=_criterion(criterion, granularity, rest), granularity=granularity, **rest)
    _choice("scope", found.scope, SCOPES)
    _evidence(found)
    _amount(found)
    _floors(found)
    _scoring(found)
    if not cuts_channels(granularity):
        _weights(found)
    return found


def free_ends(free: Any) -> tuple[str, ...]:
    """Which ends of the network may be cut. ValueError for another word than 'inputs' and 'outputs'."""
    ends = (free,) if isinstance(free, str) else tuple(free)
    for end in ends:
        _choice("free", end, FREE)
    return ends


def refuse_transformation(optimizer: Any) -> None:
    """Raise ValueError for an optimiser without a state, which has nothing to cut."""
    if isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            "optimizer is an optax transformation, which holds no numbers; give its state, "
            "transformation.init(params), or an nnx.Optimizer"
        )


def _choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        way_out = nearest.hint(value, known) or f"; choose one of {', '.join(map(repr, known))}"
        raise ValueError(f"{name} is {value!r}{way_out}")


def _criterion(criterion: Any, granularity: str, rest: Mapping[str, Any]) -> Criterion:
    if isinstance(criterion, str):
        _choice("criterion", criterion, tuple(CRITERIA))
        criterion = CRITERIA[criterion]
    if isinstance(criterion, Criterion):
        _unit(criterion, granularity, rest["keep"])
        return criterion
    if callable(criterion):  # it may look at whatever is given
        data = rest["batches"] is not None and rest["loss"] is not None
        needs = {"key"} if rest["key"] is not None else set()
        unit: Any = "channel" if cuts_channels(granularity) else "weight"
        return Criterion(criterion, unit, frozenset(needs | ({"grads"} if data else set())))
    raise ValueError(
        f"criterion is {criterion!r}; give a name ({', '.join(CRITERIA)}), a Criterion or a function of evidence"
    )


def _evidence(asked: Asked) -> None:
    """What criteria look at: of the right kind, as far as can be told before any work."""
    if asked.batches is not None and not isinstance(asked.batches, Iterable):
        raise ValueError(
            f"batches is of type {type(asked.batches).__name__}; give an iterable, such as [(images, labels)]"
        )
    if asked.loss is not None and not callable(asked.loss):
        raise ValueError(
            f"loss is of type {type(asked.loss).__name__}; give a function loss(model, batch) -> scalar"
        )
    key = asked.key
    if key is not None and not isinstance(key, jax.Array | np.ndarray):
        raise ValueError(f"key is {key!r}; give a PRNG key, such as jax.random.key(0)")


def _unit(criterion: Criterion, granularity: str, keep: Any) -> None:
    if criterion.unit not in ("weight", "channel"):
        raise ValueError(
            f"criterion is {name_of(criterion)!r}, whose unit is {criterion.unit!r}; choose 'weight' or 'channel'"
        )
    if cuts_channels(granularity) and criterion.weights_only and keep is None:
        raise ValueError(f"criterion is {name_of(criterion)!r}, which {WEIGHTS_ONLY}")
    if not cuts_channels(granularity) and criterion.unit == "channel":
        raise ValueError(f"criterion is {name_of(criterion)!r}, which {CHANNELS_ONLY}")


def _amount(asked: Asked) -> None:
    given = [name for name in ("ratio", "speedup", "keep") if getattr(asked, name) is not None]
    if is_pattern(asked.granularity):
        if given:
            raise ValueError(
                f"granularity is {asked.granularity!r}, which says how much goes; leave {' and '.join(given)} out"
            )
        return
    if len(given) != 1:
        what = " and ".join(given) or "none"
        raise ValueError(f"give one of ratio, speedup and keep, not {what}")
    ratios = asked.ratio.values() if isinstance(asked.ratio, Mapping) else [asked.ratio]
    for ratio in ratios if asked.ratio is not None else ():
        if not isinstance(ratio, Real) or isinstance(ratio, bool) or not 0 <= ratio <= 1:
            raise ValueError(f"ratio is {ratio!r}; it is the fraction removed, a number in [0, 1]")
    if isinstance(asked.ratio, Mapping) and asked.scope != "layer":
        raise ValueError(f"ratio is one per pattern, but scope is {asked.scope!r}; use scope='layer'")
    if asked.speedup is not None and not (isinstance(asked.speedup, Real) and 1 <= asked.speedup < 1e9):
        raise ValueError(f"speedup is {asked.speedup!r}; it is dense MACs over pruned ones, at least 1")
    if asked.keep is not None and not isinstance(asked.keep, Mapping):
        raise ValueError(
            f"keep is a {type(asked.keep).__name__}; it maps a group's name to the indices of channels that stay"
        )


def _floors(asked: Asked) -> None:
    least, to = asked.at_least, asked.round_to
    count = isinstance(least, Integral) and not isinstance(least, bool)
    if not ((count and least >= 0) or (isinstance(least, float) and 0 <= least <= 1)):
        raise ValueError(
            f"at_least is {least!r}; it is the fraction that every group keeps (a float in [0, 1]) or a number of "
            "channels (a whole number)"
        )
    if not isinstance(to, Integral) or isinstance(to, bool) or to < 1:
        raise ValueError(f"round_to is {to!r}; kept channels are rounded up to a multiple of a whole number")


def _scoring(asked: Asked) -> None:
    refuse_over(asked.criterion, asked.over, asked.reduce)
    if asked.normalise is not None:
        _choice("normalise", asked.normalise, tuple(NORMALISERS))
    many = asked.iterations
    if not isinstance(many, Integral) or isinstance(many, bool) or many < 1:
        raise ValueError(f"iterations is {many!r}; it must be a whole number of at least 1")
    if many > 1 and asked.keep is not None:
        raise ValueError(f"iterations is {many}, and keep says already what stays; leave one out")


def _weights(asked: Asked) -> None:
    what = f"granularity is {asked.granularity!r}"
    if is_pattern(asked.granularity):
        _pattern(asked, what)
    elif asked.ratio is None:
        raise ValueError(f"{what}, which takes a ratio, not a speedup or a keep")
    if asked.scope == "isomorphic":
        raise ValueError(f"{what}, which takes scope='layer' or 'global'")
    if asked.over != "producer":
        raise ValueError(
            f"over is {asked.over!r}, which speaks of channels; with {what.replace(' is', '')} leave it out"
        )
    if asked.granularity == "block":
        refuse_bad_block(asked.block)
    if not isinstance(asked.at_least, float):
        raise ValueError(f"at_least is {asked.at_least!r}; with {what.replace(' is', '')} it is a fraction")
    if asked.round_to != 1:
        raise ValueError(f"round_to is {asked.round_to!r}, which speaks of channels; leave it out")


def _pattern(asked: Asked, what: str) -> None:
    if asked.scope != "layer" or asked.at_least or asked.normalise is not None or asked.iterations > 1:
        raise ValueError(
            f"{what}, by which all layers lose alike; leave scope, at_least, normalise and iterations out"
        )
