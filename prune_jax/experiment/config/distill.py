"""``config.retrain.distill``: whether retraining follows a teacher, checked before any work."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import base_model
from prune_jax.experiment.specs import (
    DataSpec,
    Distillation,
    Imported,
    ModelSpec,
    Pretrain,
    Retrain,
    Stage,
)

KEY = "retrain.distill"


def spec_of(section: ConfigDict, model: ModelSpec, images: DataSpec) -> Distillation | None:
    """What ``retrain.distill`` asks for. None at weight 0. Raises ValueError."""
    weight, temperature = (_number(section, key) for key in ("weight", "temperature"))
    if not 0 <= weight <= 1:
        raise ValueError(f"{KEY}.weight is {weight:g}; the teacher's share of the loss lies in [0, 1]")
    if not temperature > 0:
        raise ValueError(f"{KEY}.temperature is {temperature:g}; soft outputs need one above 0")
    if not weight:
        return None
    teacher = ""
    if section.teacher:
        try:
            teacher = base_model.spec_of(section.teacher, model, images).content
        except ValueError as error:
            raise ValueError(str(error).replace("base.checkpoint", f"{KEY}.teacher")) from error
    return Distillation(weight, temperature, teacher)


def refuse_baseless(chain: Sequence[Stage]) -> None:
    """Raise ValueError for a retraining whose teacher would be a base model that the chain hasn't got."""
    if isinstance(chain[0], Pretrain | Imported):
        return
    for place, spec in enumerate(chain):
        if isinstance(spec, Retrain) and spec.distill is not None and not spec.distill.teacher:
            raise ValueError(
                f"{KEY}.weight is {spec.distill.weight:g} in stage {place} of the chain, which begins without a "
                f"trained base model to teach it: begin with 'pretrain', name a file in {KEY}.teacher, or set "
                f"{KEY}.weight to 0"
            )


def _number(section: ConfigDict, key: str) -> float:
    value: Any = section[key]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{KEY}.{key} is {value!r}; it is a number")
    return float(value)
