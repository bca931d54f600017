"""``config.mask_rule``: the rule under which a mask changes while the network trains, checked before any work."""

import glob
from collections.abc import Sequence
from inspect import Parameter
from typing import Any

from ml_collections import ConfigDict

from prune_jax import nearest
from prune_jax.experiment import networks
from prune_jax.experiment.config.arguments import joined
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import Gradual, Masking, ModelSpec, Sparsify, Stage, TrainSpec
from prune_jax.experiment.training.masking import KEY, planned, rule_of
from prune_jax.pruning.layouts import unstructured
from prune_jax.pruning.mask_rules.rule import MaskRule, refuse_unfit
from prune_jax.pruning.mask_rules.table import RULES, arguments_of, refuse_misplaced

OTHER = ("name", "layers", "arguments")


def spec_of(
    config: ConfigDict, model: ModelSpec, train: TrainSpec, stage: str, dataset: AnyDataset
) -> Masking:
    """The rule that ``config.mask_rule`` describes, tried on the network's shapes and on the stage's steps.

    Args:
        config: the whole one.
        model: the dense network.
        train: how the stage trains.
        stage: 'gradual' or 'sparse_scratch'.
        dataset: what it trains on.

    Raises:
        ValueError: in one line with key and value, for a rule that there isn't, an argument that it doesn't take or
            that it needs, a granularity that it can't keep, an interval longer than the stage, and layers that aren't
            there.
    """
    masking = masking_of(config, model)
    name = masking.rule
    try:
        rule = rule_of(planned(masking, train, dataset.train_size))
        refuse_unfit(rule, networks.network_of(model).variables["params"])
    except ValueError as error:
        raise ValueError(_with_key(str(error), name, f"{stage}.epochs={train.epochs}")) from error
    _refuse_dense(rule, name, stage)
    return masking


def masking_of(config: ConfigDict, model: ModelSpec) -> Masking:
    """What ``config.mask_rule`` says, not yet tried. Raises ValueError for names, arguments and layers."""
    section, name = config.mask_rule, str(config.mask_rule.name)
    own = own_parts.is_own(name)
    if not own:
        nearest.one_of(KEY, name, tuple(RULES))
    given = _arguments(section) if own else _complete(name, _arguments(section))
    source = own_parts.source_of(name, KEY) if own else ""
    return Masking(name, _layers(section, model), tuple(sorted(given.items())), source)


def refuse_cut_after(chain: Sequence[Stage]) -> None:
    """Raise ValueError for a cut after a stage 'gradual' but that of the filters that it has set to zero."""
    rules = [spec.masking for spec in chain if isinstance(spec, Gradual)]
    for place, spec in enumerate(chain):
        if not (rules and isinstance(spec, Sparsify)):
            continue
        granularity = dict(rules[0].arguments).get("granularity", "unstructured")
        if granularity != "filter" or spec.granularity != "filter":
            raise ValueError(
                f"sparsify.granularity is {spec.granularity!r} in stage {place} of the chain, after rule "
                f"{rules[0].rule!r} has masked at mask_rule.granularity {granularity!r}: only filters can be cut after "
                "they were masked; leave the cut out"
            )


def _refuse_dense(rule: MaskRule, name: str, stage: str) -> None:
    if stage == "sparse_scratch" and not rule.begins_sparse:
        raise ValueError(
            f"{KEY} is {name!r}, under which a network is dense at first, and the stage is 'sparse_scratch': choose a "
            "rule that begins sparse, such as 'rigl', or the stage 'gradual'"
        )


def _arguments(section: ConfigDict) -> dict[str, Any]:
    """Every key that isn't None, and what ``arguments`` holds."""
    named = {key: value for key, value in section.items() if key not in OTHER and value is not None}
    return joined("mask_rule", named, section.arguments, "{'drop': 0.3}")


def _complete(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a rule of the table, its granularity spelt out. Raises ValueError."""
    known = arguments_of(RULES[name].make)
    takes = [key for key in known if key != "layers"]
    for key, value in given.items():
        if key == "granularity" and key not in known:
            continue  # of a rule that has one alone: it is checked below
        if key not in takes:
            raise ValueError(
                f"mask_rule.{key} is {value!r}, but rule {name!r} takes no such argument; it takes {', '.join(takes)}"
            )
    for key in takes:
        if known[key] is Parameter.empty and key not in given:
            raise ValueError(f"mask_rule.{key} is None, and rule {name!r} needs it")
    granularity = given.get("granularity", known.get("granularity", "unstructured"))
    try:
        refuse_misplaced(name, granularity)
    except ValueError as error:
        raise ValueError(f"mask_rule.{error}") from error
    if "granularity" in known:
        return given | {"granularity": granularity}
    return {key: value for key, value in given.items() if key != "granularity"}


def _layers(section: ConfigDict, model: ModelSpec) -> tuple[str, ...]:
    patterns = tuple(section.layers) or networks.default_patterns(model)
    try:
        found = unstructured.chosen(networks.network_of(model).variables["params"], patterns)
    except ValueError as error:
        raise ValueError(f"mask_rule.layers: {error}") from error
    return tuple(map(glob.escape, found))


def _with_key(text: str, name: str, epochs: str) -> str:
    """A rule's own message with the config's key before it, and the stage's length where that matters."""
    first = text.split(" ", 1)[0]
    known = () if own_parts.is_own(name) else arguments_of(RULES[name].make)
    told = f"mask_rule.{text}" if first in known else text if text.startswith(KEY) else f"mask_rule: {text}"
    return f"{told} (with {epochs})" if first in ("interval", "begin", "end") else told
