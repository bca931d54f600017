"""Comparison setups (Table 2): which hold between two runs, and what breaks each one that doesn't."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from prune_jax.fairness import chain, images, training_settings
from prune_jax.fairness.record import RunRecord
from prune_jax.fairness.training_settings import Break
from prune_jax.nearest import unknown

_S1 = ("metric", "dataset", "network", "rate")
_S2 = (*_S1, "base_model")
_S31 = (*_S2, "retrain_epochs")
_S32 = (*_S31, "retrain_schedule", "optimiser", "augmentation", "settings")
_S41 = (*_S32, "prune_epochs")
# Each setup and the fields that must agree. S1 to S4.2 contain one another, the paper's printed order.
# S3.2 asks for the LR schedule alone and takes the other settings as equal: stated and different breaks it,
# unstated is listed among the assumptions. So it is with the form of the images (see images.py) in 'dataset'.
SETUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "S1": _S1,
        "S2": _S2,
        "S3.1": _S31,
        "S3.2": _S32,
        "S4.1": _S41,
        "S4.2": (*_S41, "prune_schedule"),
        "SX-A": (*_S1, "total_epochs"),
        "SX-B": (*_S1, "total_compute"),
        "same_overall_schedule": (*_S1, "total_epochs", "overall_schedule"),
    }
)
STRICTNESS = ("S1", "S2", "S3.1", "S3.2", "S4.1", "S4.2")


@dataclass(frozen=True)
class Verdict:
    """Which setups hold between two records. ``breaks[setup]`` is empty exactly where it holds.

    ``assumed`` names settings that one side leaves unstated and that S3.2 and up take as equal. ``differing`` are
    settings that both state and that differ, whatever the setup: Table 2 asks for equal ones from S3.2 on alone.
    """

    a: str
    b: str
    breaks: Mapping[str, tuple[Break, ...]]
    assumed: tuple[str, ...] = ()
    differing: tuple[Break, ...] = ()

    def holds(self, setup: str) -> bool:
        """Whether a setup holds. KeyError naming the nearest for an unknown one."""
        return not self.breaks[known_setup(setup)]

    @property
    def strictest(self) -> str | None:
        """The strictest of S1 to S4.2 that holds, or None."""
        return next((setup for setup in reversed(STRICTNESS) if self.holds(setup)), None)

    @property
    def holding(self) -> tuple[str, ...]:
        """All setups that hold, SX-A, SX-B and same_overall_schedule among them."""
        return tuple(setup for setup in SETUPS if self.holds(setup))

    def explain(self, setup: str) -> str:
        """One clause: that the setup holds, or what breaks it. Then which settings differ though it doesn't ask."""
        if self.holds(setup):
            return f"{setup} holds{self.though()}"
        return f"{setup} doesn't hold ({'; '.join(map(str, self.breaks[setup]))}){self.though(setup)}"

    def though(self, setup: str | None = None) -> str:
        """', though settings differ: ...' with those that ``differing`` holds and that a broken setup doesn't name."""
        named = self.breaks[setup] if setup else ()
        more = [broken for broken in self.differing if broken not in named]
        return f", though settings differ: {'; '.join(map(str, more))}" if more else ""


def strictest_setup(a: RunRecord, b: RunRecord, rate_tolerance: float = 0.02) -> Verdict:
    """Judge two records by every setup of Table 2, and by Table 4's ``same_overall_schedule``.

    A field that either record leaves unstated never counts as equal.

    Args:
      a: a record.
      b: another one.
      rate_tolerance: relative difference of speedups that counts as the same rate. Of compressions where a speedup is
        unstated, or where both are 1 as under masks. Also of SX-B's compute. The number is ours, the paper says 'same'.

    Returns:
      A ``Verdict``: which setups hold, and what breaks each of the others.

    Raises:
      ValueError: ``rate_tolerance`` is negative.

    Example:
      >>> same = {"dataset": "cifar10", "network": "resnet56"}
      >>> verdict = strictest_setup(RunRecord("A", **same), RunRecord("B", **same))
      >>> verdict.strictest, [broken.field for broken in verdict.breaks["S1"]]
      (None, ['rate (speedup)'])

    Source: arXiv 2301.05219, Tables 2 and 4.
    """
    if rate_tolerance < 0:
        raise ValueError(f"rate_tolerance must be at least 0, got {rate_tolerance}")
    found = {name: check(a, b, rate_tolerance) for name, check in _CHECKS.items()}
    breaks = {
        setup: tuple(broken for field in fields if (broken := found[field]) is not None)
        for setup, fields in SETUPS.items()
    }
    differing = [found[field] for field in ("optimiser", "augmentation", "settings")]
    differing.append(None if chain.same_base(a, b) else training_settings.pretraining(a, b))
    stated = tuple(broken for broken in differing if broken is not None)
    return Verdict(a.name, b.name, MappingProxyType(breaks), _assumptions(a, b), stated)


def known_setup(setup: str) -> str:
    """The name itself. For an unknown one KeyError with the nearest."""
    if setup not in SETUPS:
        raise KeyError(unknown("setup", setup, SETUPS))
    return setup


def _equal(field: str, read: Callable[[RunRecord], Any]) -> Callable[..., Break | None]:
    def check(a: RunRecord, b: RunRecord, _: float) -> Break | None:
        x, y = read(a), read(b)
        return None if x is not None and x == y else Break(field, _text(x), _text(y))

    return check


def _metric(a: RunRecord, b: RunRecord, _: float) -> Break | None:
    """What is stated, else what papers print on the data set."""
    x, y = a.measured, b.measured
    return None if x == y else Break("metric", x.text, y.text)


def _dataset(a: RunRecord, b: RunRecord, _: float) -> Break | None:
    """One name, and under it the same classes and the same form of images."""
    x, y = a.dataset, b.dataset
    if x is None or x != y:
        return Break("dataset", x, y)
    unlike = images.unlike(a, b)
    return None if unlike is None else Break("dataset", *(f"{x} ({text})" for text in unlike))


def _rate(a: RunRecord, b: RunRecord, tolerance: float) -> Break | None:
    pairs = {kind: (getattr(a.costs, kind), getattr(b.costs, kind)) for kind in ("speedup", "compression")}
    if pairs["speedup"] == (1.0, 1.0) and None not in pairs["compression"]:
        del pairs[
            "speedup"
        ]  # masks leave multiply-accumulates as they are: 1x of both says nothing of how much went
    if any(_near(x, y, tolerance) for x, y in pairs.values()):
        return None
    kind = next((kind for kind, pair in pairs.items() if None not in pair), "speedup")
    return Break(f"rate ({kind})", *(None if x is None else f"{x:.4g}x" for x in pairs[kind]))


def _base_model(a: RunRecord, b: RunRecord, _: float) -> Break | None:
    if chain.same_base(a, b):
        return None
    return Break("base_model", *map(chain.base_text, (a, b)))


def _total(field: str, read: Callable[..., Any]) -> Callable[..., Break | None]:
    """Check a sum over the whole chain. One base model is one pretraining, even where that is unstated.

    Of two texts, lengths are tokens and computes FLOPs.
    """

    def check(a: RunRecord, b: RunRecord, tolerance: float) -> Break | None:
        kinds = chain.AFTER_BASE if chain.same_base(a, b) else chain.ALL
        x, y = read(a, kinds), read(b, kinds)
        if field == "total_compute":
            if None in (x, y) and None not in (a.costs.training_flops, b.costs.training_flops):
                return _printed_compute(a, b, tolerance)
            (one, x), (other, y) = ((None, None) if found is None else found for found in (x, y))
            same = _near(one, other, tolerance)
        else:
            same = x is not None and x == y
        return None if same else Break(field, _text(x), _text(y))

    return check


def _printed_compute(a: RunRecord, b: RunRecord, tolerance: float) -> Break | None:
    """Training FLOPs as printed, where the chains don't tell them."""
    x, y = a.costs.training_flops, b.costs.training_flops
    if _near(x, y, tolerance):
        return None
    return Break("total_compute", *(f"{v:.4g} times the dense network's training" for v in (x, y)))


def _near(x: float | None, y: float | None, tolerance: float) -> bool:
    if x is None or y is None:
        return False
    return x == y or max(x, y) <= (1.0 + tolerance) * min(x, y)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _assumptions(a: RunRecord, b: RunRecord) -> tuple[str, ...]:
    unstated = ("metric",) if (a.metric is None) != (b.metric is None) else ()
    return (*unstated, *training_settings.assumed(a, b), *images.assumed(a, b))


_CHECKS: Mapping[str, Callable[..., Break | None]] = MappingProxyType(
    {
        "metric": _metric,
        "dataset": _dataset,
        "network": _equal("network", lambda r: r.network),
        "rate": _rate,
        "base_model": _base_model,
        "retrain_epochs": _equal("retrain_epochs", lambda r: chain.length(r, ("retrain",))),
        "retrain_schedule": _equal("retrain_schedule", lambda r: chain.schedules(r, ("retrain",))),
        "optimiser": training_settings.optimiser,
        "augmentation": training_settings.augmentation,
        "settings": training_settings.further,
        "prune_epochs": _equal("prune_epochs", lambda r: chain.length(r, ("sparsify",))),
        "prune_schedule": _equal("prune_schedule", lambda r: chain.schedules(r, ("sparsify",))),
        "total_epochs": _total("total_epochs", chain.length),
        "total_compute": _total("total_compute", chain.compute),
        "overall_schedule": _total("overall_schedule", chain.overall_schedule),
    }
)
