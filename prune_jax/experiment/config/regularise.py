"""``config.regularise``: training under a penalty before the cut, checked before any work."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config import layouts
from prune_jax.experiment.config.arguments import joined
from prune_jax.experiment.config.sparsify import ratios_of
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.own.regularizer import KEY, regularizer_of
from prune_jax.experiment.specs import DataSpec, ModelSpec, Ratios, Regularise, TrainSpec
from prune_jax.experiment.training import optimizers
from prune_jax.experiment.training.penalties import penalty_of, pushing_of
from prune_jax.nearest import one_of
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.regularizers.table import REGULARIZERS, Regularizer, arguments_of

NOT_ARGUMENTS = ("name", "epochs", "schedule", "stop", "arguments")
GIVEN = ("uniform", "stages")  # allocations that say before any score how much each layer loses


def spec_of(
    config: ConfigDict, images: DataSpec, model: ModelSpec, train: TrainSpec, steps: int
) -> Regularise:
    """The stage that ``config.regularise`` describes, before the action that ``config.sparsify`` does.

    Args:
        config: the whole, its ``sparsify`` that of the action to come.
        images: what it trains on.
        model: the network.
        train: epochs, schedule and optimiser of the stage.
        steps: that an epoch has.

    Raises:
        ValueError: in one line with key and value, before any work.
    """
    section, name = config.regularise, config.regularise.name
    if not own_parts.is_own(name):
        one_of(KEY, name, tuple(REGULARIZERS))
    source = own_parts.source_of(name, KEY) if own_parts.is_own(name) else ""
    regularizer = regularizer_of(name)
    arguments = _arguments(section, regularizer)
    _refuse_rare(arguments, steps * train.epochs)
    narrow = layouts.narrowed(config, model)
    layers, ratios = _channels(narrow, model, regularizer)
    spec = Regularise(
        images,
        train,
        name,
        tuple(sorted(arguments.items())),
        layers,
        ratios,
        config.sparsify.round_to if ratios else 1,
        section.stop,
        source,
    )
    _refuse_misfit(spec, model)
    return spec


def _arguments(section: ConfigDict, regularizer: Regularizer) -> dict[str, Any]:
    """Every argument of the regulariser: as given, else its own default."""
    taken = arguments_of(regularizer.make)
    own = own_parts.is_own(section.name)
    given = {key: section[key] for key in section if key not in NOT_ARGUMENTS and section[key] is not None}
    told = joined("regularise", given, section.arguments, "{'scale': 0.5}")
    for key, value in told.items():
        if key not in taken and not (own and key in section.arguments):
            raise ValueError(
                f"regularise.{key} is {value!r}, but {section.name} has no such number; it has "
                f"{', '.join(f'regularise.{each}' for each in taken) or 'none'}: leave it at None"
            )
    return {key: tuple(value) if isinstance(value, list) else value for key, value in (taken | told).items()}


def _refuse_rare(arguments: Mapping[str, Any], steps: int) -> None:
    every = arguments.get("every", 1)
    if every > steps:
        raise ValueError(
            f"regularise.every is {every}, and the stage has {steps} steps (regularise.epochs): its strength would "
            "never rise; lower the one or raise the other"
        )


def _channels(
    config: ConfigDict, model: ModelSpec, regularizer: Regularizer
) -> tuple[tuple[str, ...], Ratios]:
    """The groups that are looked at, and of a regulariser that chooses what each loses."""
    section, name = config.sparsify, config.regularise.name
    if not regularizer.channels:
        return (), ()
    if not cuts_channels(section.granularity):
        raise ValueError(
            f"{KEY} is {name!r}, which pushes channels, and sparsify.granularity is {section.granularity!r}: choose "
            "granularity 'filter', or a regulariser of whole kernels such as 'kernel_orthogonality'"
        )
    layers = tuple(networks.unit_sizes(model, section.layers, "filter"))
    if not regularizer.chooses:
        return layers, ()
    if section.allocation not in GIVEN:
        raise ValueError(
            f"{KEY} is {name!r}, which must know before training how many channels each layer loses, and "
            f"sparsify.allocation is {section.allocation!r}: choose one of {', '.join(map(repr, GIVEN))}, or a "
            "regulariser that pushes all channels such as 'group_lasso'"
        )
    ratios = ratios_of(config, model)
    if not any(ratio for _, ratio in ratios):
        raise ValueError(
            f"{KEY} is {name!r}, and sparsify.ratio is {section.ratio:g}: there is no channel to push"
        )
    return layers, ratios


@functools.cache  # a memo: every run of a sweep asks again
def _refuse_misfit(spec: Regularise, model: ModelSpec) -> None:
    """Raise ValueError where the penalty can't take a step of this network. It is tried on shapes."""
    regularizer = regularizer_of(spec.regularizer)
    groups = [group for group in networks.groups_of(model) if group.name in spec.layers]
    if regularizer.unfit is not None and (why := regularizer.unfit(groups)):
        raise ValueError(
            f"{KEY} is {spec.regularizer!r}, which finds nothing to act on in {model.name}: of the groups that "
            f"sparsify.layers names {why}"
        )
    try:
        penalty = penalty_of(model, pushing_of(model, spec, {}))
        optimizer = optimizers.make(optimizers.Rule(), penalty=penalty)
        params = networks.network_of(model).variables["params"]
        state = jax.eval_shape(optimizer.init, params)
        jax.eval_shape(optimizer.update, params, state, params)
    except (ValueError, TypeError, KeyError) as error:
        text = str(error)
        raise ValueError(
            text if text.startswith(KEY) else f"regularise ({spec.regularizer}): {text}"
        ) from error
