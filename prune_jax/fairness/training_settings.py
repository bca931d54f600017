"""Settings of training beside the chain: in which of them two records differ, and which one leaves unstated."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from prune_jax.fairness.record import RunRecord

ASKED = ("momentum", "weight_decay", "batch_size", "name")  # of an optimiser. Unstated they are assumed equal
TRAINED = ("pretrain", "scratch")
# What a stage's spec leaves out is at these values (a test holds them to experiment.specs): so between two runs of this
# package an option that one alone uses is a difference, not something unstated.
TRAIN_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "precision": "float32",
        "accumulate": 1,
        "optimizer": "sgd",
        "clip_norm": 0.0,
        "label_smoothing": 0.0,
        "ema": 0.0,
        "source": "",
    }
)
DATA_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"crop_pad": 0, "flip": False, "recipe": None, "train_examples": 0}
)
OPTIONS = ("precision", "accumulate", "clip_norm", "label_smoothing", "ema")


@dataclass(frozen=True)
class Break:
    """A field that breaks a setup, with both values as text. None is unstated."""

    field: str
    a: str | None
    b: str | None

    @property
    def unstated(self) -> bool:
        """Whether it is missing rather than different."""
        return self.a is None or self.b is None

    def __str__(self) -> str:
        if self.a is None and self.b is None:
            return f"{self.field} unstated by both"
        return f"{self.field} {self.a or 'unstated'} against {self.b or 'unstated'}"


def stated_optimiser(record: RunRecord) -> dict[str, Any]:
    """Every setting that a record's optimiser states, by name."""
    if record.optimiser is None:
        return {}
    stated = {field.name: getattr(record.optimiser, field.name) for field in fields(record.optimiser)}
    return {**stated.pop("other"), **{k: v for k, v in stated.items() if v is not None}}


def optimiser(a: RunRecord, b: RunRecord, _: float = 0.0) -> Break | None:
    """Settings of the optimiser, the batch size among them, that both state and that differ."""
    return _differing("optimiser", *_optimisers(a, b))


def further(a: RunRecord, b: RunRecord, _: float = 0.0) -> Break | None:
    """Further settings, such as distillation, that both state and that differ."""
    return _differing("settings", *_further(a, b))


def augmentation(a: RunRecord, b: RunRecord, _: float = 0.0) -> Break | None:
    """Augmentation, where both state it and it differs."""
    x, y = a.augmentation, b.augmentation
    if x is None or y is None or x == y:
        return None
    return Break("augmentation", *("+".join(side) or "none" for side in (x, y)))


def pretraining(a: RunRecord, b: RunRecord) -> Break | None:
    """Settings in which one's training from random weights differs from the other's, as their stages' specs say.

    Those are the pretraining of a run that is pruned, and the only stage of scratch: optimiser, data, augmentation.
    Their LR schedules and epochs are the chain's.
    """
    return _differing("training from random weights:", first_training(a), first_training(b))


def assumed(a: RunRecord, b: RunRecord) -> tuple[str, ...]:
    """Settings that one side leaves unstated, such as 'optimiser momentum'."""
    x, y = _optimisers(a, b)
    names = [f"optimiser {key}" for key in sorted({*ASKED, *x, *y}) if key not in x or key not in y]
    if a.augmentation is None or b.augmentation is None:
        names.append("augmentation")
    ours, theirs = _further(a, b)
    one_sided = sorted(ours.keys() ^ theirs.keys())
    return (*names, *(f"settings {key}" for key in one_sided))


def _differing(field: str, x: Mapping[str, Any], y: Mapping[str, Any]) -> Break | None:
    keys = [key for key in x if key in y and x[key] != y[key]]
    if not keys:
        return None
    return Break(field, *(", ".join(f"{key}={side[key]}" for key in keys) for side in (x, y)))


def _optimisers(a: RunRecord, b: RunRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both state.

    Two runs of this package also have the options that their last stages' specs leave at default.
    """
    stated = (stated_optimiser(a), stated_optimiser(b))
    x, y = options(a), options(b)
    return stated if x is None or y is None else (x | stated[0], y | stated[1])


def _further(a: RunRecord, b: RunRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both state. Two runs of this package also state that there is no distillation, where neither says more."""
    own = None not in (options(a), options(b))
    left = {"distillation": "no"} if own and "distillation" in {*a.settings, *b.settings} else {}
    return left | a.settings, left | b.settings


def options(record: RunRecord) -> dict[str, Any] | None:
    """Options of the last stage's training, those at their default included. None where its spec states no training."""
    spec = _section(record.stages[-1].spec, "train") if record.stages else None
    return None if spec is None else {key: spec.get(key, TRAIN_DEFAULTS[key]) for key in OPTIONS}


def first_training(record: RunRecord) -> dict[str, Any]:
    """Settings of the training from random weights, as its stage's spec says. Empty where it says nothing."""
    spec = next((stage.spec for stage in record.stages or () if stage.kind in TRAINED), {})
    train, data = _section(spec, "train"), _section(spec, "data")
    told = {} if train is None else {**TRAIN_DEFAULTS, **train}
    told |= {} if data is None else {key: data.get(key, default) for key, default in DATA_DEFAULTS.items()}
    return {key: value for key, value in told.items() if key not in ("schedule", "epochs", "extend")}


def _section(spec: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    section = spec.get(name)
    return dict(section) if isinstance(section, Mapping) else None
