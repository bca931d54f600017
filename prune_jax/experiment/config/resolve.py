"""From a config to what is run: every value checked, every schedule canonical, every group named."""

from typing import Any

import jax
from ml_collections import ConfigDict

from prune_jax import models, nearest
from prune_jax.experiment import networks
from prune_jax.experiment.arm import Arm
from prune_jax.experiment.config import optimizer_keys
from prune_jax.experiment.config.chain import chain_of
from prune_jax.experiment.config.dataset import AnyDataset, spec_of
from prune_jax.experiment.devices import mesh, strategy
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import DataSpec, Measure, ModelSpec, chain_ids
from prune_jax.experiment.training.step import REMATS
from prune_jax.trainability import mean_estimate

MEASURED = 512  # test examples whose Jacobians are measured where none are named


def resolve(config: ConfigDict, dataset: AnyDataset) -> Arm:
    """The run that ``config`` describes. Raises ValueError naming the key, the value and what is allowed."""
    config = optimizer_keys.completed(config)
    if config.checkpoint.keep < 1:
        raise ValueError(
            f"checkpoint.keep is {config.checkpoint.keep}; at least 1 is kept of a stage in the middle"
        )
    model = _model(config, dataset)
    images = spec_of(config, dataset)
    _refuse_other_inputs(model, images)
    chain = chain_of(config, images, model, dataset)
    seeds, how = _seeds(config), _execution(config, model, images.streamed)
    return Arm(
        config.label or config.experiment,
        chain,
        seeds,
        _measure(config, dataset),
        how,
        _mesh(config, len(seeds) if how.replicas == "vmap" else 1, alone=how.together == "run"),
        nearest.one_of("remat", config.remat, REMATS),
        config.to_dict() | _own_parts(config) | _tokens(config, images, dataset),
        tuple(chain_ids(chain, seed) for seed in seeds),
    )


def _own_parts(config: ConfigDict) -> dict[str, Any]:
    """What a record says of the parts that are the user's own: file and hash by config key. Nothing without any."""
    references = {
        "model.name": config.model.name,
        "dataset.name": config.dataset.name,
        "sparsify.criterion": config.sparsify.criterion,
        "optimizer.name": config.optimizer.name,
        "mask_rule.name": config.mask_rule.name,
        "regularise.name": config.regularise.name,
    }
    found = own_parts.stated(references)
    return {"own_parts": found} if found else {}


def _refuse_other_inputs(model: ModelSpec, images: DataSpec) -> None:
    """Raise ValueError where a network of the catalog takes images and the data set is a text."""
    if images.window and not own_parts.is_own(model.name) and not networks.takes_tokens(model):
        readers = [name for name in models.names() if models.info(name).dtype != "float32"]
        raise ValueError(
            f"model.name is {model.name!r}, which takes images, but {images.name} is a text; choose one that takes "
            f"tokens: {', '.join(readers)}"
        )


def _tokens(config: ConfigDict, images: DataSpec, dataset: AnyDataset) -> dict[str, Any]:
    """Of a text, the bytes that an epoch trains on, in which a report states budgets."""
    if not images.window:
        return {}
    size = config.optimizer.batch_size
    return {"tokens_per_epoch": steps_per_epoch(dataset.train_size, size) * size * images.window}


def _model(config: ConfigDict, dataset: AnyDataset) -> ModelSpec:
    options = tuple(sorted(config.model.options.items()))
    name, own = config.model.name, own_parts.is_own(config.model.name)
    source = own_parts.source_of(name, "model.name") if own else ""
    spec = ModelSpec(name, dataset.input_shape, dataset.num_classes, options, source)
    if own:
        own_network.abstract_network(spec)
        return spec
    try:
        networks.network_of(spec)
    except ValueError as error:
        raise ValueError(f"model: {error}") from error
    return spec


def _seeds(config: ConfigDict) -> tuple[int, ...]:
    seeds = tuple(config.seeds)
    if not seeds or len(set(seeds)) != len(seeds) or any(not isinstance(s, int) or s < 0 for s in seeds):
        raise ValueError(f"seeds is {seeds}; it needs at least one whole number >= 0, each once")
    return seeds


def _measure(config: ConfigDict, dataset: AnyDataset) -> Measure:
    section, available = config.measure, dataset.test_size
    if section.jsv is False:
        return Measure()
    what = "mean" if section.jsv is True else nearest.one_of("measure.jsv", section.jsv, ("mean", "spectrum"))
    every = 1 if section.every == "epoch" else section.every
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise ValueError(
            f"measure.every is {section.every!r}; allowed: 'epoch' or a number of epochs, at least 1"
        )
    examples = section.examples or min(MEASURED, available)
    if not 1 <= examples <= available:
        raise ValueError(
            f"measure.examples is {examples}; {dataset.name} has {available} test examples: "
            f"allowed: 1 to {available}, or 0: {min(MEASURED, available)}"
        )
    least = mean_estimate.least_budget(examples, dataset.num_classes)
    return Measure(examples, every, what, _budget(section.budget, what, least))


def _budget(budget: int, what: str, least: int) -> int:
    if budget and what == "spectrum":
        raise ValueError(f"measure.budget is {budget}, but measure.jsv='spectrum' is exact; allowed there: 0")
    if budget and jax.process_count() > 1:
        raise ValueError(f"measure.budget is {budget}; several processes measure exactly, with budget 0")
    if budget and budget < least:
        raise ValueError(
            f"measure.budget is {budget}; allowed: 0 (exact), or at least {least} pull-backs: exact spectra of "
            "two examples, from which a standard error follows"
        )
    return budget


def _execution(config: ConfigDict, model: ModelSpec, streamed: bool) -> strategy.Execution:
    section, convolutional = config.execution, networks.is_convolutional(model)
    epoch, replicas = section.epoch, section.replicas
    if streamed:  # every seed has a stream of its own, and a stream is read step by step
        if "scan" in epoch or "vmap" in replicas:
            raise ValueError(
                f"execution.epoch is {epoch!r} and execution.replicas {replicas!r}; a streamed data set allows "
                "'step' and 'loop' (or 'auto') only"
            )
        epoch, replicas = "step", "loop"
    return strategy.decide(jax.default_backend(), convolutional, epoch, replicas, section.together)


def _mesh(config: ConfigDict, replicas: int, *, alone: bool) -> mesh.MeshShape:
    """The devices a run is spread over. ValueError where they don't divide its batch."""
    asked = mesh.MeshShape(**config.mesh)
    shape = mesh.choose(
        asked,
        devices=jax.device_count(),
        replicas=replicas,
        backend=jax.default_backend(),
        processes=jax.process_count(),
        alone=alone,
    )
    mesh.refuse_uneven(shape, config.optimizer.batch_size, config.optimizer.accumulate)
    return shape
