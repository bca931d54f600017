"""A model spec's groups, widths and costs, found on abstract values."""

import fnmatch
import functools
from collections.abc import Sequence
from typing import Any

import jax

from prune_jax import models
from prune_jax.experiment import execution, own_network, own_parts
from prune_jax.experiment.specs import ModelSpec, Ratios
from prune_jax.experiment.train import abstract_model as abstract_model
from prune_jax.experiment.train import default_patterns, network_of
from prune_jax.pruning import allocation
from prune_jax.pruning.cost import Cost, count
from prune_jax.pruning.coupling import Group, find_groups


def example_of(spec: ModelSpec) -> jax.ShapeDtypeStruct:
    """One abstract input of the network, batch axis included."""
    return jax.ShapeDtypeStruct((1, *spec.input_shape), "float32")


@functools.cache  # a memo of a pure function of a frozen spec: every run of a sweep asks again
def is_convolutional(spec: ModelSpec) -> bool:
    """Whether the network holds a convolution."""
    network = network_of(spec)
    return execution.is_convolutional(network.apply, network.variables, example_of(spec))


@functools.cache  # a memo of a pure function of a frozen spec
def groups_of(spec: ModelSpec) -> tuple[Group, ...]:
    """The coupled channel groups of the dense network."""
    network = network_of(spec)
    return find_groups(network.apply, network.variables, example_of(spec))


def cost_of(spec: ModelSpec, widths: dict[str, int] | None = None) -> Cost:
    """Costs of one example's forward pass, dense or with pruned ``widths``."""
    network = network_of(spec, widths)
    return count(network.apply, network.variables, example_of(spec))


def fresh(spec: ModelSpec, widths: dict[str, int] | None, key: jax.Array) -> Any:
    """Random variables of the dense network, or of the small one with an initialisation of its own size."""
    if own_parts.is_own(spec.name):
        return own_network.small_fresh(spec, own_network.first(widths or {}), key)
    module = models.create(
        spec.name,
        num_classes=spec.num_classes,
        input_shape=spec.input_shape,
        widths=widths,
        key=key,
        **dict(spec.options),
    )
    return models.functional(module).variables


def widths_of(spec: ModelSpec, ratios: Ratios) -> dict[str, int]:
    """Channels that stay in every group that ``ratios`` names: n - ceil(ratio * n), at least one."""
    wanted = dict(ratios)
    return {
        group.name: group.size - allocation.pruned_count(group.size, wanted[group.name])
        for group in groups_of(spec)
        if group.name in wanted
    }


def uniform_ratios(spec: ModelSpec, layers: Sequence[str], ratio: float) -> Ratios:
    """``ratio`` for every group that a pattern of ``layers`` names; by default what the paper prunes.

    Raises ValueError for a pattern that names no group that can be pruned.
    """
    patterns = tuple(layers) or default_patterns(spec)
    return tuple((name, float(ratio)) for name in _named(spec, patterns))


def stage_ratios(spec: ModelSpec, layers: Sequence[str], ratios: Sequence[float]) -> Ratios:
    """One ratio per stage of the network, as the paper lists them: stem, stages, head.

    Raises ValueError for a list of another length than the network has stages, for a ratio above 0 where
    nothing is pruned, and as ``uniform_ratios``.
    """
    if own_parts.is_own(spec.name):
        raise ValueError(
            f"sparsify.stage_ratios is {tuple(ratios)}, but {spec.name} is a network of your own, without a list of "
            "stages; name its groups in sparsify.layers, and give sparsify.ratio"
        )
    stages = models.info(spec.name).stages
    if len(ratios) != len(stages):
        raise ValueError(
            f"sparsify.stage_ratios has {len(ratios)} entries {tuple(ratios)}; {spec.name} has {len(stages)} "
            f"stages (stem, stages, head): give {len(stages)} ratios"
        )
    names = _named(spec, tuple(layers) or default_patterns(spec))
    for number, (patterns, ratio) in enumerate(zip(stages, ratios, strict=True)):
        if ratio > 0 and not any(_matches(name, patterns) for name in names):
            raise ValueError(
                f"sparsify.stage_ratios prunes {ratio:g} of stage {number} of {spec.name}, {patterns}, where "
                "sparsify.layers names no layer: make it 0, or name one"
            )
    pairs = [
        (name, float(ratio))
        for name in names
        for patterns, ratio in zip(stages, ratios, strict=True)
        if _matches(name, patterns)
    ]
    return tuple((name, ratio) for name, ratio in pairs if ratio > 0)


def _named(spec: ModelSpec, patterns: tuple[str, ...]) -> list[str]:
    try:
        return [group.name for group in allocation.chosen(groups_of(spec), patterns)]
    except ValueError as error:
        raise ValueError(f"sparsify.layers: {error}") from error


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
