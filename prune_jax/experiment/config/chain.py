"""From a config to the chain of stages that it asks for."""

import copy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from prune_jax import nearest
from prune_jax.experiment import base_model
from prune_jax.experiment.config import optimizer_keys, plateau_rule
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.sparsify import (
    by_stages,
    ratios_of,
    refuse_bad_ratios,
    refuse_fixed_sizes,
    refuse_not_for_scratch,
    sparsify_spec,
)
from prune_jax.experiment.specs import (
    DataSpec,
    Imported,
    ModelSpec,
    Pretrain,
    Retrain,
    Scratch,
    Sparsify,
    Stage,
    TrainSpec,
)
from prune_jax.experiment.training.step import PRECISIONS
from prune_jax.pruning import rounds
from prune_jax.schedules import LRSchedule

PIPELINES = ("prune", "scratch")
STAGES = ("pretrain", "sparsify", "retrain", "scratch")
Link = tuple[str, dict[str, Any]]  # a stage's kind, and keys that it has of its own
Overrides = dict[str, Any]


def override(config: ConfigDict, overrides: Overrides) -> ConfigDict:
    """A copy of ``config`` with dotted keys replaced; ValueError for a key that it lacks."""
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
    pretrain, then ``sparsify.rounds`` times sparsify and retrain.

    Raises ValueError naming the key, the value and what is allowed.
    """
    listed = _listed(config) if config.chain else _by_keys(config)
    chain = tuple(
        _stage(kind, _with(config, kind, own, place), images, model, dataset)
        for place, (kind, own) in enumerate(listed)
    )
    _refuse_falling(chain)
    return chain


def _by_keys(config: ConfigDict) -> list[Link]:
    """The chain that ``pipeline``, ``sparsify.rounds`` and ``retrain_between`` describe."""
    if nearest.one_of("pipeline", config.pipeline, PIPELINES) == "scratch":
        return [("scratch", {})]
    section, between = config.sparsify, config.retrain_between
    amounts = _amounts(config)
    shorter = {
        key: value
        for key, value in (("epochs", between.epochs), ("schedule", between.schedule))
        if value not in (0, "")
    }
    links: list[Link] = [("pretrain", {})]
    for number, amount in enumerate(amounts, 1):
        links += [("sparsify", amount), ("retrain", shorter if number < section.rounds else {})]
    return links


def _amounts(config: ConfigDict) -> list[dict[str, Any]]:
    """What each round's sparsify stage has of its own: how much of the dense network is gone after it."""
    section = config.sparsify
    how = (section.rounds, section.rounds_schedule)
    refuse_bad_ratios(section)
    by_stage = by_stages(section)
    try:
        if section.allocation == "speedup":
            return [{"speedup": each} for each in rounds.cumulative_speedups(section.speedup, *how)]
        if by_stage:
            each_stage = [rounds.cumulative_ratios(ratio, *how) for ratio in section.stage_ratios]
            return [{"stage_ratios": ratios} for ratios in zip(*each_stage, strict=True)]
        return [{"ratio": ratio} for ratio in rounds.cumulative_ratios(section.ratio, *how)]
    except ValueError as error:
        raise ValueError(f"sparsify.rounds, rounds_schedule and how much is pruned: {error}") from error


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
        links.append((nearest.one_of(f"chain[{place}].stage", own.pop("stage"), STAGES), own))
    kinds = [kind for kind, _ in links]
    if kinds[0] not in ("pretrain", "scratch"):
        raise ValueError(
            f"chain[0].stage is {kinds[0]!r}, which needs a network to act on: begin with 'pretrain' "
            "(base.checkpoint names a file instead of training), or with 'scratch'"
        )
    for place, kind in enumerate(kinds[1:], 1):
        if kind in ("pretrain", "scratch"):
            raise ValueError(f"chain[{place}].stage is {kind!r}; a chain begins with it, once")
    if kinds[0] == "scratch" and "sparsify" in kinds:
        raise ValueError(
            f"chain[{kinds.index('sparsify')}].stage is 'sparsify' after 'scratch', whose network is small from the "
            "start; begin with 'pretrain'"
        )
    if kinds[-1] == "sparsify":
        raise ValueError(
            f"chain[{len(kinds) - 1}].stage is 'sparsify'; a chain ends with training: add 'retrain'"
        )
    return links


def _with(config: ConfigDict, kind: str, own: dict[str, Any], place: int) -> ConfigDict:
    """The config with the keys that a stage has of its own in its section."""
    if not own:
        return config
    for key in own:
        if key not in config[kind]:
            raise ValueError(nearest.unknown(f"key of chain[{place}] ({kind}):", key, list(config[kind])))
    return override(config, {f"{kind}.{key}": value for key, value in own.items()})


def _stage(kind: str, config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Stage:
    if kind == "pretrain":
        return _base(config, images, model, dataset)
    if kind == "retrain":
        return Retrain(images, train_spec(config, "retrain", dataset))
    if kind == "scratch":
        refuse_not_for_scratch(config.sparsify)
        ratios = ratios_of(config, model)
        refuse_fixed_sizes(model, ratios)
        return Scratch(images, model, ratios, train_spec(config, "scratch", dataset))
    return sparsify_spec(config, model, dataset)


def _base(config: ConfigDict, images: DataSpec, model: ModelSpec, dataset: AnyDataset) -> Pretrain | Imported:
    """The base model: read from ``base.checkpoint`` where that is given, else trained."""
    if config.base.checkpoint:
        return base_model.spec_of(config.base.checkpoint, model, images)
    return Pretrain(images, model, train_spec(config, "pretrain", dataset))


def _refuse_falling(chain: tuple[Stage, ...]) -> None:
    """Raise ValueError where a later round would leave more of a layer than is left."""
    before: dict[str, float] = {}
    total = 0.0
    for place, spec in enumerate(chain):
        if not isinstance(spec, Sparsify):
            continue
        kinds = {s.granularity for s in chain[:place] if isinstance(s, Sparsify)}
        if kinds - {spec.granularity}:
            raise ValueError(
                f"sparsify.granularity is {spec.granularity!r} in stage {place} of the chain and {kinds.pop()!r} "
                "before; a chain keeps to one"
            )
        if spec.ranking is not None:
            much = spec.ranking.speedup or spec.ranking.ratio
            if much < total:
                raise ValueError(_falls(place, "all layers together", much, total))
            total = much
        for name, ratio in spec.ratios:
            if ratio < before.get(name, 0.0):
                raise ValueError(_falls(place, name, ratio, before[name]))
            before[name] = ratio


def _falls(place: int, what: str, ratio: float, before: float) -> str:
    return (
        f"stage {place} of the chain, sparsify, has {ratio:g} for {what}, but {before:g} is gone before: ratios and "
        f"speedups are of the dense network, so give at least {before:g}"
    )


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
