"""The teacher of a retraining that distils: the chain's base model, or a file of the same network's weights."""

from collections.abc import Sequence
from typing import Any

from prune_jax.experiment import base_model
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain import restore
from prune_jax.experiment.specs import Imported, Retrain, Stage
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import Member


def stated(chain: Sequence[Stage]) -> dict[str, str]:
    """What a record says of the teachers among its ``settings``. Nothing where no retraining has one."""
    told = [spec.distill for spec in chain if isinstance(spec, Retrain) and spec.distill is not None]
    texts = [
        f"from {'file ' + each.teacher[:8] if each.teacher else 'the base model'}, weight {each.weight:g}, "
        f"temperature {each.temperature:g}"
        for each in told
    ]
    return {"distillation": " | ".join(texts)} if texts else {}


def teacher_of(store: disk.Store, link: Link, member: Member) -> Any:
    """The variables of a replica's teacher. None where the stage has none.

    Raises CheckpointError where the base model isn't there, and ValueError where the file is another than planned.
    """
    distill = getattr(link.spec, "distill", None)
    if distill is None:
        return None
    if distill.teacher:
        path = link.arm.config["retrain"]["distill"]["teacher"]
        return base_model.load(path, Imported(distill.teacher, link.arm.model, link.spec.data))
    assert member.parent is not None
    base, _ = restore.lineage_of(store, member.parent)[-1]
    return restore.load(store, base).variables
