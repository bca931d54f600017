"""``config.sparsify``: the sparsifying action that it asks for, checked before any work."""

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config import (
    criterion_trial,
    depth,
    equal_damage,
    layouts,
    own_criterion,
    recovery,
    scoring_keys,
)
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.examples import gathering
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import Gathering, ModelSpec, Ranking, Ratios, Sparsify
from prune_jax.experiment.twins import refuse_unfit
from prune_jax.nearest import one_of
from prune_jax.pruning.allocation import NORMALISERS, least_width
from prune_jax.pruning.criteria.criterion import WEIGHTS_ONLY
from prune_jax.pruning.criteria.table import CRITERIA, Criterion
from prune_jax.pruning.evidence import DATA_FREE, OF_GROUPS
from prune_jax.pruning.granularity import ceiling, cuts_channels
from prune_jax.pruning.heads import is_heads, refuse_uneven
from prune_jax.pruning.jaxpr.reading import leaf_paths

ALLOCATIONS = ("uniform", "stages", "global", "isomorphic", "speedup", "erk", "sensitivity")
BY_SCORES = ("global", "isomorphic", "speedup", "sensitivity")  # allocations for which scores are needed
BY_SPEEDUP = ("speedup", "sensitivity")
SCOPES = ("layer", "global", "isomorphic")


def in_range(key: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless ``low <= value < high``."""
    if not low <= value < high:
        raise ValueError(f"{key} is {value}; allowed: [{low:g}, {high:g})")


def refuse_bad_ratios(section: ConfigDict) -> None:
    """Raise ValueError for a ratio outside [0, 1), of all layers or of a stage."""
    in_range("sparsify.ratio", section.ratio, 0.0, 1.0)
    for ratio in section.stage_ratios:
        in_range("sparsify.stage_ratios", ratio, 0.0, 1.0)


def refuse_bad_speedup(section: ConfigDict) -> None:
    """Raise ValueError for a target speedup below 1, where the allocation reads it."""
    if section.allocation in BY_SPEEDUP and not 1 <= section.speedup < float("inf"):
        raise ValueError(
            f"sparsify.speedup is {section.speedup}; allocation {section.allocation!r} needs a number of at least 1"
        )


def refuse_bad_rounding(section: ConfigDict) -> None:
    """Raise ValueError for a multiple below 1 that kept channels are rounded up to."""
    if section.round_to < 1:
        raise ValueError(f"sparsify.round_to is {section.round_to}; it must be at least 1")


def by_stages(section: ConfigDict) -> bool:
    """Whether ratios are given for each stage of the network. ValueError where the keys contradict each other."""
    allocation = one_of("sparsify.allocation", section.allocation, ALLOCATIONS)
    if allocation == "stages" and not section.stage_ratios:
        raise ValueError(
            "sparsify.allocation is 'stages' and sparsify.stage_ratios is (); give one ratio for each stage of the "
            "network, or choose 'uniform' and sparsify.ratio"
        )
    if allocation in BY_SCORES and section.stage_ratios:
        raise ValueError(
            f"sparsify.allocation is {allocation!r}, which decides how much each layer loses, and "
            f"sparsify.stage_ratios is {tuple(section.stage_ratios)}: leave one out"
        )
    return bool(section.stage_ratios)


def refuse_not_for_scratch(section: ConfigDict) -> None:
    """Raise ValueError for what a network that is small from its start can't have: scores, masks."""
    refuse_bad_rounding(section)
    one_of("sparsify.allocation", section.allocation, ALLOCATIONS)
    layouts.granularity_of(section)
    if section.allocation in BY_SCORES:
        raise ValueError(
            f"sparsify.allocation is {section.allocation!r}, which needs scores of a trained network; scratch has "
            "none: choose 'uniform' or 'stages'"
        )
    if section.granularity != "filter" and not depth.is_asked(section):
        raise ValueError(
            f"sparsify.granularity is {section.granularity!r}; scratch trains a small dense network: choose 'filter' "
            "or 'depth'"
        )


def ratios_of(config: ConfigDict, model: ModelSpec) -> Ratios:
    """(group, ratio) pairs: a ratio for each layer, or for each stage of the network. Raises ValueError."""
    section = config.sparsify
    refuse_bad_ratios(section)
    if depth.is_asked(section):
        return depth.ratios_of(section, model)
    if not cuts_channels(section.granularity):
        return layouts.ratios_of(section, model)
    if by_stages(section):
        return networks.stage_ratios(model, section.layers, section.stage_ratios)
    ratios = networks.uniform_ratios(model, section.layers, section.ratio)
    if networks.takes_tokens(model):
        _refuse_uneven_heads(model, ratios, section.ratio)
    return ratios


def _refuse_uneven_heads(model: ModelSpec, ratios: Ratios, ratio: float) -> None:
    """Raise ValueError where a language model's key and value heads can't lose this part of them."""
    named, leaves = dict(ratios), dict(leaf_paths(networks.network_of(model).variables))
    heads = [each for each in networks.groups_of(model) if each.name in named and is_heads(each, leaves)]
    try:
        refuse_uneven(heads, ratio)
    except ValueError as error:
        raise ValueError(f"sparsify.ratio: {error}") from error


def sparsify_spec(config: ConfigDict, model: ModelSpec, dataset: AnyDataset) -> Sparsify:
    """The stage that ``config.sparsify`` describes. Raises ValueError naming the key, the value and what is allowed."""
    config = layouts.narrowed(config, model)
    section = config.sparsify
    granularity = layouts.granularity_of(section)
    if depth.is_asked(section):
        return depth.spec_of(config, model, dataset)
    allocation = one_of("sparsify.allocation", section.allocation, ALLOCATIONS)
    recovered = recovery.fields_of(config, model, dataset)
    refuse_bad_rounding(section)
    in_range("sparsify.at_least", section.at_least, 0.0, 1.0)
    one_of("sparsify.normalise", section.normalise, ("", *NORMALISERS))
    ranking = _ranking(section, model) if allocation in BY_SCORES else None
    plain = ratios_of(config, model)
    if cuts_channels(granularity):
        refuse_unfit(model, networks.widths_of(model, plain, section.round_to))
    criterion, source = _criterion(section, model, granularity, tuple(dict(plain)))
    scoring_keys.refuse(section, model, criterion, tuple(dict(plain)))
    scoring_keys.refuse_in_turn(section, model, criterion, tuple(dict(plain)), ranked=ranking is not None)
    return Sparsify(
        section.criterion,
        () if ranking else plain,
        granularity=granularity,
        source=source,
        round_to=section.round_to if cuts_channels(granularity) else 1,
        ranking=ranking,
        evidence=_gathering(config, criterion, dataset),
        iterations=section.iterations,
        over=section.over,
        reduce=section.reduce,
        compensate=section.compensate or criterion.compensate is None,
        sensitivity=equal_damage.spec_of(config, model, dataset),
        in_turn=section.in_turn,
        **recovered,
        **layouts.fields_of(section),
    )


def _ranking(section: ConfigDict, model: ModelSpec) -> Ranking:
    layers = tuple(section.layers)
    normalise = section.normalise or ("mean" if cuts_channels(section.granularity) else "none")
    if not cuts_channels(section.granularity) and section.allocation == "isomorphic":
        raise ValueError(
            "sparsify.allocation is 'isomorphic', which ranks channels of groups that are built alike; with "
            f"granularity {section.granularity!r} choose 'uniform' or 'global'"
        )
    if section.allocation not in BY_SPEEDUP:
        in_range("sparsify.ratio", section.ratio, 0.0, 1.0)
        ranking = Ranking(
            layers, section.ratio, scope=section.allocation, at_least=section.at_least, normalise=normalise
        )
        _refuse_floors(model, section, ranking)
        return ranking
    if not cuts_channels(section.granularity):
        raise ValueError(
            f"sparsify.allocation is {section.allocation!r}, which cuts channels; with granularity "
            f"{section.granularity!r} choose 'uniform' or 'global'"
        )
    refuse_bad_speedup(section)
    if section.allocation == "sensitivity":
        return Ranking(layers, 0.0, float(section.speedup), "sensitivity")
    scope = one_of("sparsify.speedup_scope", section.speedup_scope, SCOPES)
    if scope == "layer" and section.at_least:
        raise ValueError(
            f"sparsify.at_least is {section.at_least:g}, the floor of a global ranking, and sparsify.speedup_scope is "
            "'layer', where all layers lose alike: choose 'global', or leave at_least at 0"
        )
    _refuse_out_of_reach(model, section)
    return Ranking(layers, 0.0, float(section.speedup), scope, section.at_least, normalise)


def _refuse_floors(model: ModelSpec, section: ConfigDict, ranking: Ranking) -> None:
    """Raise ValueError where ``at_least`` of every layer, or one unit, leaves less to go than ``ratio`` asks for."""
    for sizes in scoring_keys.ranked_sizes(model, ranking, section.granularity, section.block):
        reach = sum(size - max(1, ceiling(section.at_least, size)) for size in sizes)
        if ceiling(section.ratio, sum(sizes)) <= reach:
            continue
        floor = f"sparsify.at_least is {section.at_least:g} and " if section.at_least else ""
        left = "at_least of every layer left" if floor else "no layer emptied"
        raise ValueError(
            f"{floor}sparsify.ratio {'' if floor else 'is '}{section.ratio:g}; with {left}, a ratio of "
            f"{reach / sum(sizes):.4g} can be reached: lower {'one of them' if floor else 'it'}"
        )


def _refuse_out_of_reach(model: ModelSpec, section: ConfigDict) -> None:
    """Raise ValueError where the fewest channels that may be left, everywhere, are not fast enough."""
    sizes = networks.unit_sizes(model, section.layers, "filter")
    most = {
        name: least_width(size, section.at_least, round_to=section.round_to) for name, size in sizes.items()
    }
    fastest = networks.cost_of(model).macs / networks.cost_of(model, most).macs
    if fastest < section.speedup:
        floor = f" down to at_least={section.at_least:g} of each layer" if section.at_least else ""
        raise ValueError(
            f"sparsify.speedup is {section.speedup:g}; pruning all that sparsify.layers names{floor} gives "
            f"{model.name} {fastest:.3g}: name more layers, or ask for less"
        )


def _criterion(
    section: ConfigDict, model: ModelSpec, granularity: str, pruned: tuple[str, ...]
) -> tuple[Criterion, str]:
    """The criterion, and the hash of its file where it is the user's own."""
    source = ""
    if own_parts.is_own(section.criterion):
        source = own_parts.source_of(section.criterion, own_criterion.KEY)
    else:
        one_of("sparsify.criterion", section.criterion, tuple(CRITERIA))
    criterion = own_criterion.criterion_of(section.criterion)
    if not cuts_channels(granularity) and criterion.unit != "weight":
        raise ValueError(
            f"sparsify.criterion is {section.criterion!r}, which scores whole channels, and sparsify.granularity "
            f"{granularity!r}; choose granularity 'filter', or a criterion of single weights such as 'l1'"
        )
    if cuts_channels(granularity) and criterion.weights_only:
        raise ValueError(f"sparsify.criterion is {section.criterion!r}, which {WEIGHTS_ONLY}")
    criterion_trial.refuse_unscored(section.criterion, model, granularity, pruned)
    if source:
        own_criterion.refuse_misfit(section.criterion, source, model, pruned, cuts_channels(granularity))
    return criterion, source


def _gathering(config: ConfigDict, criterion: Criterion, dataset: AnyDataset) -> Gathering | None:
    """Over which examples evidence is gathered. None where the criterion needs no data."""
    if not criterion.needs - DATA_FREE:
        return None
    name = f"sparsify.criterion is {config.sparsify.criterion!r}, which needs {', '.join(sorted(criterion.needs))}"
    examples = gathering(config, "evidence", dataset, name)
    if not cuts_channels(config.sparsify.granularity) and criterion.needs & OF_GROUPS:
        raise ValueError(f"{name}, which are of channels: choose granularity 'filter'")
    return examples
