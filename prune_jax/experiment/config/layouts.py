"""``config.sparsify.granularity``: which units go, and of masked weights how many of each layer."""

import copy
import functools
import glob
import math
from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment import depth, networks
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.specs import ModelSpec, Ratios
from prune_jax.nearest import hint
from prune_jax.pruning.granularity import GRANULARITIES, cuts_channels
from prune_jax.pruning.heads import head_groups
from prune_jax.pruning.inputs.axis_check import refuse_other_orders
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.layouts import unstructured
from prune_jax.pruning.layouts.blocks import block_counts, refuse_bad_block
from prune_jax.pruning.layouts.erk import erk_ratios
from prune_jax.pruning.layouts.n_of_m import is_pattern, pattern_of, refuse_misfit

KEY = "sparsify.granularity"


def granularity_of(section: ConfigDict) -> str:
    """``granularity``, with the keys that it goes with checked. Raises ValueError."""
    granularity, known = section.granularity, (*GRANULARITIES, depth.GRANULARITY)
    if granularity not in known and not is_pattern(granularity):
        raise ValueError(
            f"{KEY} is {granularity!r}; allowed: {', '.join(known)}, or N:M such as '2:4'"
            f"{hint(granularity, known)}"
        )
    if is_pattern(granularity):
        _refuse_another_ratio(section, _named(KEY, pattern_of, granularity).ratio)
        if section.allocation != "uniform":
            raise ValueError(
                f"{KEY} is {granularity!r}, by which all layers lose alike, and sparsify.allocation "
                f"{section.allocation!r}: choose 'uniform'"
            )
        refuse_rounds(section)
    if granularity == "block":
        _named("sparsify.block", refuse_bad_block, section.block)
    if cuts_channels(granularity) and section.allocation == "erk":
        raise ValueError(
            f"sparsify.allocation is 'erk', which is of single weights, and {KEY} {granularity!r}: choose granularity "
            "'unstructured' or 'block', or another allocation"
        )
    return granularity


def _refuse_another_ratio(section: ConfigDict, its_own: float) -> None:
    """Raise ValueError for a ratio that was set and isn't the one that a pattern removes."""
    unset = default_config().sparsify.ratio
    if section.ratio != unset and not math.isclose(section.ratio, its_own):
        raise ValueError(
            f"sparsify.ratio is {section.ratio:g}, but {KEY} {section.granularity!r} removes {its_own:g} of each layer"
            f": leave the ratio out or set it to {its_own:g}"
        )


def refuse_rounds(section: ConfigDict) -> None:
    """Raise ValueError for several rounds or iterations of a pattern, which leaves nothing to a later one."""
    for key in ("rounds", "iterations"):
        if is_pattern(section.granularity) and section[key] != 1:
            raise ValueError(
                f"sparsify.{key} is {section[key]}, and {KEY} {section.granularity!r} says by itself how much goes: "
                "choose 1"
            )


def fields_of(section: ConfigDict) -> dict[str, Any]:
    """What a spec says of the layout of its units, beside the granularity."""
    block = tuple(section.block) if section.granularity == "block" else ()
    pad = section.pad and (bool(block) or is_pattern(section.granularity))
    return {"block": block, "pad": pad}


def narrowed(config: ConfigDict, model: ModelSpec) -> ConfigDict:
    """The config with ``layers`` naming, of granularity 'head', the groups of heads alone. Raises ValueError."""
    section = config.sparsify
    if section.granularity != "head":
        return config
    patterns = tuple(section.layers) or networks.default_patterns(model)
    wanted = networks.unit_sizes(model, patterns, "filter")
    groups = [group for group in networks.groups_of(model) if group.name in wanted]
    found = _named(KEY, head_groups, groups, networks.network_of(model).variables)
    narrow = copy.deepcopy(config)
    narrow.sparsify.layers = tuple(glob.escape(group.name) for group in found)
    return narrow


def ratios_of(section: ConfigDict, model: ModelSpec) -> Ratios:
    """(layer, ratio) pairs of granularities that mask weights. A pattern's ratio is its own. Raises ValueError."""
    if section.stage_ratios:
        raise ValueError(
            f"sparsify.stage_ratios are of granularity 'filter'; with {section.granularity!r} name the layers in "
            "sparsify.layers and give sparsify.ratio, or choose allocation 'global'"
        )
    pattern = pattern_of(section.granularity) if is_pattern(section.granularity) else None
    ratio = pattern.ratio if pattern else section.ratio
    ratios = networks.kernel_ratios(model, section.layers, ratio)
    params, names = networks.network_of(model).variables["params"], tuple(dict(ratios))
    if pattern and not section.pad:
        _named(KEY, refuse_misfit, params, pattern, names)
    units = {}
    if section.granularity == "block":
        block = (section.block[0], section.block[1])
        units = _named("sparsify.block", block_counts, params, block, names, pad=section.pad)
    if pattern or section.granularity == "block":
        _named(KEY, _refuse_other_orders, model, names)
    if section.allocation != "erk":
        return ratios
    leaves = dict(leaf_paths(params))
    shapes = {name: leaves[path].shape for name, path in unstructured.chosen(params, names).items()}
    return tuple(erk_ratios(shapes, section.ratio, units).items())


@functools.cache  # a memo: every run of a sweep asks again
def _refuse_other_orders(model: ModelSpec, names: tuple[str, ...]) -> None:
    network = networks.network_of(model)
    found = unstructured.chosen(network.variables["params"], names)
    paths = {name: f"params/{path}" for name, path in found.items()}
    refuse_other_orders(network.apply, network.variables, networks.example_of(model), paths=paths)


def _named(key: str, check: Any, *given: Any, **how: Any) -> Any:
    """What ``check`` returns. Its ValueError names the key, and where something doesn't fit the keys that help."""
    try:
        return check(*given, **how)
    except ValueError as error:
        text = str(error).replace(
            "leave it out, or pad", "leave it out of sparsify.layers, or set sparsify.pad"
        )
        raise ValueError(f"{key}: {text}") from error
