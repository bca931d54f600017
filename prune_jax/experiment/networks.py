"""A model spec's groups, widths and costs, found on abstract values."""

import fnmatch
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from prune_jax import models
from prune_jax.experiment import depth
from prune_jax.experiment.devices import strategy
from prune_jax.experiment.own import network as own_network
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import DataSpec, ModelSpec, Ratios, Sparsify
from prune_jax.pruning import allocation, surgery
from prune_jax.pruning.cost import Cost, cost_of_keeps
from prune_jax.pruning.coupling import Group, find_groups
from prune_jax.pruning.depth import keep_blocks, number_of_blocks
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import Keep, shrunk_groups
from prune_jax.pruning.layouts import unstructured
from prune_jax.pruning.layouts.blocks import block_counts
from prune_jax.pruning.mask_rules import costs


def example_of(spec: ModelSpec) -> jax.ShapeDtypeStruct:
    """One abstract input of the network, batch axis included."""
    return jax.ShapeDtypeStruct((1, *spec.input_shape), "int32" if takes_tokens(spec) else "float32")


def takes_tokens(spec: ModelSpec) -> bool:
    """Whether the network is a language model of the catalog."""
    return not own_parts.is_own(spec.name) and models.info(spec.name).dtype == "int32"


@functools.cache  # a memo of a pure function of a frozen spec: every run of a sweep asks again
def is_convolutional(spec: ModelSpec) -> bool:
    """Whether the network holds a convolution."""
    network = network_of(spec)
    return strategy.is_convolutional(network.apply, network.variables, example_of(spec))


@functools.cache  # a memo of a pure function of a frozen spec
def groups_of(spec: ModelSpec) -> tuple[Group, ...]:
    """The coupled channel groups of the dense network."""
    if own_parts.is_own(spec.name):
        return own_network.groups_of(spec)
    network = network_of(spec)
    return find_groups(network.apply, network.variables, example_of(spec))


@functools.cache  # a memo of a pure function of a frozen spec
def kernel_macs(spec: ModelSpec) -> dict[str, int]:
    """Multiply-accumulates that each kernel of the dense network takes part in, by layer, for one example."""
    network = network_of(spec)
    return costs.kernel_macs(network.apply, network.variables, example_of(spec))


def cost_of(spec: ModelSpec, widths: Mapping[str, int] = MappingProxyType({})) -> Cost:
    """Costs of one example's forward pass, dense or with so many channels left in the groups that ``widths`` names.

    The channels of a group cost the same, so their number is enough: the cost of a keep is that of its widths.
    """
    left, rest = depth.at_depth(spec, widths)
    return _cost_of(left, tuple(sorted(rest.items())))


@functools.cache  # a memo of a pure function of frozen arguments: rounds, seeds and runs ask for the same widths
def _cost_of(spec: ModelSpec, widths: tuple[tuple[str, int], ...]) -> Cost:
    return _costs(spec)(own_network.first(dict(widths)))


@functools.cache  # a memo: one trace of the dense network prices all that are cut from it
def _costs(spec: ModelSpec) -> Callable[[Mapping[str, Any]], Cost]:
    network = network_of(spec)
    return cost_of_keeps(network.apply, network.variables, example_of(spec))


def small_variables(spec: ModelSpec, widths: Mapping[str, int]) -> Any:
    """Abstract variables of the network with ``widths``, which are cut from the dense one's."""
    left, rest = depth.at_depth(spec, widths)
    dense = network_of(left).variables
    return surgery.shrink(dense, groups_of(left), own_network.first(rest)) if rest else dense


def fresh(spec: ModelSpec, widths: Mapping[str, int] | None, key: jax.Array) -> Any:
    """Random variables of the dense network, or of the small one with an initialisation of its own size.

    A network of the catalog is built with its ``widths``. One whose widths nobody can set, of the user's own or with
    a shortcut among them, is initialised dense, cut and rescaled: see ``own.network.small_fresh``.
    Of fewer blocks the first of those are taken that the network would begin with.
    """
    spec, widths = depth.at_depth(spec, widths or {})
    if own_parts.is_own(spec.name):
        return own_network.small_fresh(spec, own_network.first(widths), key)
    if not has_widths(spec, tuple(sorted(widths.items()))):
        dense, keep = fresh(spec, None, key), own_network.first(widths)
        return own_network.rescaled(dense, surgery.shrink(dense, groups_of(spec), keep))
    module = models.create(
        spec.name,
        num_classes=spec.num_classes,
        input_shape=spec.input_shape,
        widths=widths or None,
        key=key,
        **dict(spec.options),
    )
    return models.functional(_with_blocks(spec, module)).variables


@functools.cache  # a memo of a pure function of frozen arguments
def has_widths(spec: ModelSpec, widths: tuple[tuple[str, int], ...]) -> bool:
    """Whether a network of the catalog can be built with these widths."""
    try:
        abstract_model(spec, dict(widths))
    except ValueError:
        return False
    return True


def widths_of(spec: ModelSpec, ratios: Ratios, round_to: int = 1) -> dict[str, int]:
    """Channels that stay in every group that ``ratios`` names: n - ceil(ratio * n), at least one, rounded up.

    The same of blocks.
    """
    wanted = dict(ratios)
    sizes = {name: blocks_of(spec, depth.path_of(name)) for name in depth.only(wanted)}
    if len(sizes) < len(wanted):
        sizes |= {group.name: group.size for group in groups_of(spec) if group.name in wanted}
    return {
        name: size - allocation.pruned_count(size, wanted[name], round_to=round_to)
        for name, size in sizes.items()
    }


def blocks_of(spec: ModelSpec, path: str) -> int:
    """How many blocks a network has at a path. ValueError where there are none."""
    return number_of_blocks(network_of(spec).variables["params"], path)


def uniform_ratios(spec: ModelSpec, layers: Sequence[str], ratio: float) -> Ratios:
    """``ratio`` for every group that a pattern of ``layers`` names. Without patterns, for what the paper prunes.

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


def kernel_ratios(spec: ModelSpec, layers: Sequence[str], ratio: float) -> Ratios:
    """``ratio`` for the weights of every layer that a pattern of ``layers`` names: unstructured pruning's layers.

    Raises ValueError for a pattern that names no layer with weights.
    """
    try:
        named = unstructured.chosen(
            network_of(spec).variables["params"], tuple(layers) or default_patterns(spec)
        )
    except ValueError as error:
        raise ValueError(f"sparsify.layers: {error}") from error
    return tuple((name, float(ratio)) for name in named)


def unit_sizes(
    spec: ModelSpec, layers: Sequence[str], granularity: str, block: Sequence[int] = ()
) -> dict[str, int]:
    """How many units each layer has that a pattern of ``layers`` names: channels, blocks where so asked, or weights.

    Raises ValueError for a pattern that names nothing.
    """
    patterns = tuple(layers) or default_patterns(spec)
    if cuts_channels(granularity):
        sizes = {group.name: group.size for group in groups_of(spec)}
        return {name: sizes[name] for name in _named(spec, patterns)}
    params = network_of(spec).variables["params"]
    leaves = dict(leaf_paths(params))
    if granularity == "block":
        return block_counts(params, (block[0], block[1]), patterns, pad=True)
    return {
        name: math.prod(leaves[path].shape) for name, path in unstructured.chosen(params, patterns).items()
    }


def sizes_of(spec: ModelSpec, layers: Sequence[str], action: Sparsify) -> dict[str, int]:
    """``unit_sizes`` of the units that a sparsifying action chooses among. No pattern names blocks: it says them."""
    if action.granularity == depth.GRANULARITY:
        return {name: blocks_of(spec, depth.path_of(name)) for name, _ in action.ratios}
    return unit_sizes(spec, layers, action.granularity, action.block)


def _named(spec: ModelSpec, patterns: tuple[str, ...]) -> list[str]:
    try:
        return [group.name for group in allocation.chosen(groups_of(spec), patterns)]
    except ValueError as error:
        raise ValueError(f"sparsify.layers: {error}") from error


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def abstract_model(spec: ModelSpec, widths: dict[str, int] | None = None) -> Any:
    """The model of a spec without arrays: shapes and structure only."""
    module = models.abstract(
        spec.name,
        num_classes=spec.num_classes,
        input_shape=spec.input_shape,
        widths=widths,
        **dict(spec.options),
    )
    return _with_blocks(spec, module)


def _with_blocks(spec: ModelSpec, module: Any) -> Any:
    """The module with as many of its blocks as the spec has left."""
    return keep_blocks(module, range(spec.blocks[1]), spec.blocks[0]) if spec.blocks else module


@functools.cache  # a memo of a pure function of a frozen spec, so that what JAX compiled for it is found again
def network_of(spec: ModelSpec) -> models.Network:
    """The dense network of a spec, from the catalog or the user's own, without arrays."""
    if own_parts.is_own(spec.name):
        return own_network.abstract_network(spec)
    return models.functional(abstract_model(spec))


def default_patterns(spec: ModelSpec) -> tuple[str, ...]:
    """Which groups are pruned where a config names none: the paper's, or all of a network of the user's own."""
    return ("*",) if own_parts.is_own(spec.name) else models.info(spec.name).pruned


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Full batches in an epoch. What is left over is dropped and, reshuffled, used in a later epoch."""
    return examples // batch_size


class StageNetwork(NamedTuple):
    """What a stage hands on: its network's state, and what that network is of.

    ``variables`` are those of the small network. ``keep`` says which channels of the dense network they are. Groups
    that it doesn't name are whole. ``mask`` is like the parameters, of bools, or None where none is held. ``model`` has
    the blocks that are left, and ``blocks`` says which of the dense network's they are.
    """

    model: ModelSpec
    data: DataSpec
    variables: Any
    keep: Keep = MappingProxyType({})  # type: ignore[assignment]
    mask: Any = None
    blocks: Keep = MappingProxyType({})  # type: ignore[assignment]


def groups_now(model: ModelSpec, keep: Keep) -> tuple[Group, ...]:
    """The groups of a network as it is, when of the dense one's channels those of ``keep`` are left."""
    return shrunk_groups(groups_of(model), keep)
