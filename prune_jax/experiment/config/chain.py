"""From a config to the chain of stages that it asks for."""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from prune_jax import nearest
from prune_jax.experiment import base_model, networks
from prune_jax.experiment.config import (
    distill,
    layouts,
    mask_rule,
    optimizer_keys,
    plateau_rule,
    regularise,
    rewinding,
)
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.places import refuse_misplaced
from prune_jax.experiment.config.rounds_rise import refuse_falling
from prune_jax.experiment.config.sparsify import (
    by_stages,
    ratios_of,
    refuse_bad_ratios,
    refuse_bad_speedup,
    refuse_not_for_scratch,
    sparsify_spec,
)
from prune_jax.experiment.specs import (
    DataSpec,
    Gradual,
    Imported,
    ModelSpec,
    Pretrain,
    Retrain,
    Scratch,
    SparseScratch,
    Stage,
    TrainSpec,
)
from prune_jax.experiment.training.step import PRECISIONS
from prune_jax.experiment.twins import refuse_unfit
from prune_jax.pruning import rounds
from prune_jax.schedules import LRSchedule

PIPELINES = ("prune", "prune_at_init", "scratch", "gradual", "sparse_scratch")
STAGES = (
    "pretrain",
    "initialise",
    "regularise",
    "sparsify",
    "gradual",
    "rewind",
    "retrain",
    "scratch",
    "sparse_scratch",
)


class Link(NamedTuple):
    """A stage to be: its kind, the keys of its section that it has of its own, and where these were written."""

    kind: str
    own: Mapping[str, Any] = MappingProxyType({})
    where: str = ""


Overrides = dict[str, Any]


def override(config: ConfigDict, overrides: Overrides) -> ConfigDict:
    """A copy of ``config`` with dotted keys replaced. ValueError for a key that it lacks."""
    changed = copy.deepcopy(config)  # not ConfigDict's own copy, which forgets what types a key may take
    try:
        changed.update_from_flattened_dict(overrides)
    except (KeyError, TypeError) as error:
        raise ValueError(f"sweep override {overrides}: {error}") from error
    return changed


def chain_of(
    config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset
) -> tuple[Stage, ...]:
    """The stages that ``config`` asks for, in their order.

    ``config.chain`` lists them where it isn't empty. Else ``config.pipeline`` 'scratch' is one stage, and 'prune' is
    pretrain, then ``sparsify.rounds`` times sparsify and retrain, with a rewind between where ``rewind.to`` is given
    and regularised training before where ``regularise.name`` is.
    'prune_at_init' begins with random weights in place of pretraining. 'gradual' is pretrain, gradual, retrain, and
    'sparse_scratch' one stage again.

    Raises ValueError naming the key, the value and what is allowed.
    """
    listed = _listed(config) if config.chain else _by_keys(config)
    chain: list[Stage] = []
    for place, link in enumerate(listed):
        around = _with_cut_to_come(config, listed[place:]) if link.kind == "regularise" else config
        own = rewinding.scheduled(_with(around, link), link.kind, chain[0] if chain else None)
        chain.append(_stage(link, own, images, model, dataset))
    refuse_falling(tuple(chain), model)
    distill.refuse_baseless(chain)
    mask_rule.refuse_cut_after(chain)
    rewinding.refuse_beyond(chain)
    rewinding.refuse_undone(chain)
    return tuple(chain)


def _with_cut_to_come(config: ConfigDict, rest: list[Link]) -> ConfigDict:
    """The config whose ``sparsify`` is that of the first such stage in the rest of a chain."""
    return _with(config, next(link for link in rest if link.kind == "sparsify"))


def _by_keys(config: ConfigDict) -> list[Link]:
    """The chain that ``pipeline``, ``sparsify.rounds`` and ``retrain_between`` describe."""
    pipeline = nearest.one_of("pipeline", config.pipeline, PIPELINES)
    if pipeline in ("scratch", "sparse_scratch", "gradual") and config.regularise.name:
        raise ValueError(
            f"regularise.name is {config.regularise.name!r}, and pipeline {pipeline!r} cuts nothing: choose pipeline "
            "'prune', or leave regularise.name empty"
        )
    if pipeline in ("scratch", "sparse_scratch"):
        return [Link(pipeline)]
    if pipeline == "gradual":
        return [Link("pretrain"), Link("gradual"), Link("retrain")]
    section, between = config.sparsify, config.retrain_between
    amounts = _amounts(config)
    shorter = {
        key: value
        for key, value in (("epochs", between.epochs), ("schedule", between.schedule))
        if value not in (0, "")
    }
    links = [Link("pretrain" if config.pipeline == "prune" else "initialise")]
    pushed = [Link("regularise")] if config.regularise.name else []
    back = [] if config.rewind.to is None else [Link("rewind")]
    for number, amount in enumerate(amounts, 1):
        last = number == section.rounds
        links += [
            *pushed,
            Link("sparsify", amount),
            *back,
            Link("retrain") if last else Link("retrain", shorter, "retrain_between"),
        ]
    return links


def _amounts(config: ConfigDict) -> list[dict[str, Any]]:
    """What each round's sparsify stage has of its own: how much of the dense network is gone after it."""
    section = config.sparsify
    how = (section.rounds, section.rounds_schedule)
    layouts.refuse_rounds(section)
    refuse_bad_ratios(section)
    refuse_bad_speedup(section)
    by_stage = by_stages(section)
    try:
        if section.allocation in ("speedup", "sensitivity"):
            return [{"speedup": each} for each in rounds.cumulative_speedups(section.speedup, *how)]
        if by_stage:
            each_stage = [rounds.cumulative_ratios(ratio, *how) for ratio in section.stage_ratios]
            return [{"stage_ratios": ratios} for ratios in zip(*each_stage, strict=True)]
        return [{"ratio": ratio} for ratio in rounds.cumulative_ratios(section.ratio, *how)]
    except ValueError as error:
        raise ValueError(f"sparsify.rounds, sparsify.rounds_schedule: {error}") from error


def _listed(config: ConfigDict) -> list[Link]:
    """``config.chain``, each entry checked to be a stage at a place where it may stand."""
    links: list[Link] = []
    for place, entry in enumerate(config.chain):
        if not isinstance(entry, Mapping | ConfigDict) or "stage" not in entry:
            raise ValueError(
                f"chain[{place}] is {entry!r}; an entry is a dict with 'stage' and keys of that section that differ, "
                "such as {'stage': 'sparsify', 'ratio': 0.5}"
            )
        own = dict(entry.items())
        kind = nearest.one_of(f"chain[{place}].stage", own.pop("stage"), STAGES)
        links.append(Link(kind, own, f"chain[{place}]"))
    refuse_misplaced([link.kind for link in links])
    return links


def _with(config: ConfigDict, link: Link) -> ConfigDict:
    """The config with the keys that a stage has of its own in its section."""
    for key in link.own:
        known = list(config.get(link.kind, ()))
        if key not in known:
            raise ValueError(nearest.unknown(f"key of {link.where} ({link.kind}):", key, known))
    if not link.own:
        return config
    try:
        return override(config, {f"{link.kind}.{key}": value for key, value in link.own.items()})
    except ValueError as error:
        raise ValueError(f"{link.where}: {error.__cause__}") from error


def _stage(link: Link, config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Stage:
    try:
        return _spec(link.kind, config, images, model, dataset)
    except ValueError as error:
        if not link.own or not link.where:
            raise
        keys = ", ".join(f"{link.where}.{key}={value!r}" for key, value in link.own.items())
        raise ValueError(f"{error} (with {keys})") from error


def _spec(kind: str, config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Stage:
    if kind == "pretrain":
        return _base(config, images, model, dataset)
    if kind == "initialise":
        return rewinding.random_base(config, images, model)
    if kind == "rewind":
        return rewinding.spec_of(config)
    if kind == "regularise":
        trained = train_spec(config, kind, dataset)
        steps = networks.steps_per_epoch(dataset.train_size, trained.batch_size)
        return regularise.spec_of(config, images, model, trained, steps)
    if kind == "retrain":
        teacher = distill.spec_of(config.retrain.distill, model, images)
        return Retrain(images, train_spec(config, "retrain", dataset), teacher)
    if kind in ("gradual", "sparse_scratch"):
        train = train_spec(config, kind, dataset)
        masking = mask_rule.spec_of(config, model, train, kind, dataset)
        return (
            Gradual(images, train, masking)
            if kind == "gradual"
            else SparseScratch(images, model, train, masking)
        )
    if kind == "scratch":
        refuse_not_for_scratch(config.sparsify)
        ratios = ratios_of(config, model)
        round_to = config.sparsify.round_to
        refuse_unfit(model, networks.widths_of(model, ratios, round_to))
        return Scratch(images, model, ratios, train_spec(config, "scratch", dataset), round_to)
    return sparsify_spec(config, model, dataset)


def _base(config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Pretrain | Imported:
    """The base model: read from ``base.checkpoint`` where that is given, else trained."""
    if config.base.checkpoint:
        return base_model.spec_of(config.base.checkpoint, model, images)
    return Pretrain(images, model, train_spec(config, "pretrain", dataset))


def train_spec(config: ConfigDict, stage: str, dataset: AnyDataset) -> TrainSpec:
    """How section ``stage`` of the config trains."""
    section, optimizer = config[stage], config.optimizer
    if section.epochs < 1:
        raise ValueError(f"{stage}.epochs is {section.epochs}; a training stage lasts at least 1 epoch")
    try:
        schedule = LRSchedule.parse(section.schedule, section.epochs)
    except ValueError as error:
        raise ValueError(f"{stage}.schedule (with {stage}.epochs={section.epochs}): {error}") from error
    examples = dataset.train_size
    if not 1 <= optimizer.batch_size <= examples:
        raise ValueError(
            f"optimizer.batch_size is {optimizer.batch_size}; {dataset.name} allows 1 to {examples}"
        )
    if optimizer.accumulate < 1 or optimizer.batch_size % optimizer.accumulate:
        raise ValueError(
            f"optimizer.accumulate is {optimizer.accumulate}; it splits optimizer.batch_size="
            f"{optimizer.batch_size} into equal microbatches: allowed are its divisors"
        )
    rule = None
    if section.get("extend"):
        schedule, rule = plateau_rule.plateau(section, schedule, dataset)
    return TrainSpec(
        str(schedule),
        schedule.epochs,
        optimizer.batch_size,
        precision=nearest.one_of("precision", config.precision, tuple(PRECISIONS)),
        accumulate=optimizer.accumulate,
        extend=rule,
        **optimizer_keys.read(optimizer),
    )
