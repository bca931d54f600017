"""``config.retrain.extend``: a schedule's LR stages as long as a plateau rule lets them be."""

import dataclasses
import itertools
from collections.abc import Sequence

from ml_collections import ConfigDict

from prune_jax.data import StreamedDataset
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.specs import Plateau, TrainSpec
from prune_jax.schedules import LRSchedule

RULES = ("plateau",)


def plateau(section: ConfigDict, schedule: LRSchedule, dataset: AnyDataset) -> tuple[LRSchedule, Plateau]:
    """The longest schedule that the rule allows, with the LRs of ``schedule`` in their order, and the rule.

    How long the stages of ``schedule`` are makes no difference.
    Raises ValueError naming the key and the value.
    """
    if section.extend not in RULES:
        raise ValueError(
            f"retrain.extend is {section.extend!r}; allowed: '' or {', '.join(map(repr, RULES))}"
        )
    if any(piece.kind != "constant" for piece in schedule.pieces):
        raise ValueError(
            f"retrain.extend is 'plateau', but retrain.schedule '{schedule}' holds a curve; it needs constant LRs"
        )
    if isinstance(dataset, StreamedDataset):
        raise ValueError(
            f"retrain.extend is 'plateau', but {dataset.name} is streamed; the rule needs it whole"
        )
    rule = section.plateau
    for key, value, least, most in (
        ("window", rule.window, 1, rule.maximum),
        ("minimum", rule.minimum, 1, rule.maximum),
        ("examples", rule.examples, 1, dataset.train_size),
    ):
        if not least <= value <= most:
            raise ValueError(f"retrain.plateau.{key} is {value}; allowed: {least} to {most}")
    for key in ("loss", "jsv"):
        if not rule[key] >= 0:
            raise ValueError(f"retrain.plateau.{key} is {rule[key]}; a tolerance is at least 0")
    rates = [lr for _, _, lr in schedule.stages]
    text = ",".join(f"{number * rule.maximum}:{lr!r}" for number, lr in enumerate(rates))
    longest = LRSchedule.parse(text, len(rates) * rule.maximum)
    return longest, Plateau(rule.window, rule.loss, rule.jsv, rule.minimum, rule.examples)


def text(train: TrainSpec) -> str:
    """The rule as a record's schedule: its tolerances, and the longest schedule that it allows."""
    assert train.extend is not None
    settings = ", ".join(f"{name}={value:g}" for name, value in dataclasses.asdict(train.extend).items())
    return f"plateau({settings}) of at most {train.schedule} ({train.epochs} epochs)"


def realised(lrs: Sequence[float]) -> str:
    """The LR schedule that one seed came to have, from the LR of each of its epochs."""
    pieces, start = [], 0
    for lr, epochs in itertools.groupby(lrs):
        pieces.append(f"{start}:{lr!r}")
        start += len(list(epochs))
    return str(LRSchedule.parse(",".join(pieces), start))
