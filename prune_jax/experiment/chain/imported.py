"""An imported base model as a stage: brought into the store, measured before anything is done to it."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from prune_jax import fairness
from prune_jax.experiment.arm import Link
from prune_jax.experiment.base_model import load
from prune_jax.experiment.chain.train import recipe_of
from prune_jax.experiment.devices.replicas import stacked
from prune_jax.experiment.specs import Imported, kind, stage_id, stated
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import Context, is_finished
from prune_jax.experiment.training.measure import entries, measure
from prune_jax.experiment.training.trainer import Recipe, make_trainer


def is_measured(context: Context, spec: Imported) -> bool:
    """Whether the base model is on disk, measured as asked. Its id says nothing of network and data."""
    its_id = stage_id(spec, 0, None)
    about = disk.read_stage(context.store, its_id)
    same = about is not None and about["spec"] == json.loads(json.dumps(stated(spec)))
    return same and is_finished(context, its_id)


def finish(context: Context, link: Link) -> None:
    """Bring the base model into the store, unless it is there. BusyError when another process does."""
    spec, (its_id, *_) = link.spec, link.ids
    if is_measured(context, spec):
        return
    with leases.held(context.store.locks, [its_id]):
        if not is_measured(context, spec):
            path = link.arm.config["base"]["checkpoint"]
            bring_in(context, spec, path, recipe_of(link.arm, link.arm.chain[-1]))


def is_there(context: Context, link: Link) -> bool:
    """Whether the base model is on disk, measured as asked."""
    return is_measured(context, link.spec)


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain. How a file's model was trained is unstated."""
    del lengths
    return fairness.Stage("pretrain", link.ids, None, None, macs, stated(link.spec))


def line(link: Link) -> str:
    """What a dry run says of it."""
    return f"from {link.arm.config['base']['checkpoint']}, for every seed"


def bring_in(context: Context, spec: Imported, path: str, recipe: Recipe) -> None:
    """Copy the base model from its file into the store, measured before anything is done to it.

    ``recipe`` is the retraining's: it says how a forward pass is compiled. Raises ValueError as ``load``.
    """
    about = {"kind": kind(spec), "spec": stated(spec), "seed": None, "parent": None}
    save_measured(context, stage_id(spec, 0, None), lambda: load(path, spec), about, recipe)


def save_measured(
    context: Context, its_id: str, made: Callable[[], Any], about: dict[str, Any], recipe: Recipe
) -> None:
    """Save a stage that holds a dense network nobody has trained here, with one measurement as its history."""
    context.progress.begin(about["kind"], 1, 0)
    variables, trainer = made(), make_trainer(recipe)
    state = trainer.init(stacked([variables]))
    (entry,) = entries(measure(trainer, state, context.data, context.measure, 0), epoch=0)
    measured = {"measure": dataclasses.asdict(context.measure), "history": [entry]}
    disk.save_stage(context.store, its_id, variables, {**about, **measured})
