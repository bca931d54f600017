"""The sparsifying action as a stage: score, choose, cut or mask, and recover where the spec asks for it."""

import glob
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from prune_jax import fairness
from prune_jax.experiment import depth, networks
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain import blocks, choosing, equal_damage, in_turn, iterations, restore
from prune_jax.experiment.chain.evidence import looking
from prune_jax.experiment.chain.recovery import Action, recovered
from prune_jax.experiment.config import own_criterion
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import Sparsify, stated
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import Context, is_finished, member_key
from prune_jax.pruning import allocation, iterated, masks, surgery
from prune_jax.pruning.compensation import keeping_first
from prune_jax.pruning.coupling import Group
from prune_jax.pruning.evidence import Evidence, part_of
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.keep import Keep, composed
from prune_jax.pruning.layouts.naming import mask_of

Groups = Sequence[Group]  # of the network as it is
Scores = Mapping[str, np.ndarray]
Look = Callable[[Any], Evidence]  # variables -> what the criterion may look at
HOW: Mapping[str, str] = MappingProxyType(
    {"layer": "one ratio a layer", "sensitivity": "equal damage of each group"}
)


def finish(context: Context, link: Link) -> None:
    """The sparsifying action of every seed, unless it is done. BusyError where another process is at it."""
    for seed, its_id, parent in zip(link.arm.seeds, link.ids, link.parents, strict=True):
        if is_finished(context, its_id):
            continue
        with leases.held(context.store.locks, [its_id]):
            if not is_finished(context, its_id):
                assert parent is not None
                _act(context, link, seed, parent, its_id)


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain. ``macs`` are those of the network that it leaves."""
    del lengths  # no epochs are trained
    return fairness.Stage("sparsify", link.ids, 0, None, macs, stated(link.spec))


def line(link: Link) -> str:
    """What a dry run says of it."""
    spec: Sparsify = link.spec
    how = "" if spec.granularity == "filter" else f", {units_of(spec)}"
    return f"{scored_by(spec)}{how}{_amount(spec)}, recovery {spec.recovery}"


def scored_by(spec: Sparsify) -> str:
    """The criterion with what changes its scores: slices, iterations and compensation, where they aren't default."""
    over = f" over coupled slices ({spec.reduce})" if spec.over == "coupled" else ""
    again = f", {spec.iterations} iterations" if spec.iterations > 1 else ""
    again += ", layer after layer" if spec.in_turn else ""
    alone = "" if spec.compensate else ", without its compensation"
    return spec.criterion + alone + over + again


def units_of(spec: Sparsify) -> str:
    """The granularity as a text, such as '2:4' or 'block 4x4'."""
    return " ".join(filter(None, (spec.granularity, "x".join(map(str, spec.block)))))


def _amount(spec: Sparsify) -> str:
    ranking = spec.ranking
    if ranking is not None:
        what = f"speedup {ranking.speedup:g}" if ranking.speedup else f"ratio {ranking.ratio:g}"
        return f", {HOW.get(ranking.scope, f'{ranking.scope} ranking')}, {what}"
    ratios = sorted({ratio for _, ratio in spec.ratios})
    return f", ratio {ratios[0]:g}" if len(ratios) == 1 else f", ratios {ratios[0]:g} to {ratios[-1]:g}"


def _act(context: Context, link: Link, seed: int, parent: str, its_id: str) -> None:
    context.progress.begin(link.kind, 1, 0)
    before, spec = restore.load(context.store, parent), link.spec
    number = link.purpose.removeprefix(link.kind)  # '' of the first, '/2' of the second
    began = time.monotonic()
    cut = _done(context, before, spec, seed, number)
    after = recovered(Action(context, cut, spec, seed, number))
    jax.block_until_ready((after.variables, after.mask))  # JAX may still be computing
    seconds = time.monotonic() - began
    told = {"kind": link.kind, "spec": stated(spec), "seed": seed, "parent": parent, "seconds": seconds}
    told["keep"] = {name: np.asarray(kept).tolist() for name, kept in kept_of(after).items()}
    if spec.recovery != "none" and own_criterion.compensates(spec):
        disk.save_cut(context.store, its_id, cut.variables)
        told["cut"] = disk.digest_of(cut.variables)
    if after.mask is not None:
        told |= disk.save_mask(context.store, its_id, after.mask)
    elif before.mask is not None:
        told |= {"mask": None, "masked": 0}
    disk.save_stage(context.store, its_id, after.variables, told)


def kept_of(network: StageNetwork) -> Keep:
    """The channels that are left of the dense network in each group that was cut, and its blocks."""
    return {**network.keep, **network.blocks}


def _done(context: Context, before: StageNetwork, spec: Sparsify, seed: int, number: str) -> StageNetwork:
    """The network after the cut, or under the mask, that the spec asks for."""
    if spec.granularity == depth.GRANULARITY:
        return blocks.cut(context, before, spec, seed, number)
    groups = networks.groups_now(before.model, before.keep)
    look = _looking(context, before, groups, spec, seed, number)
    if cuts_channels(spec.granularity):
        keep, changed = _choice(context, before, groups, spec, look, seed)
        small = surgery.shrink(changed, groups, keep)
        mask = _mask_of_cut(before, groups, keep)
        return before._replace(variables=small, keep=composed(before.keep, keep), mask=mask)
    return in_turn.masked(before, spec, look) if spec.in_turn else _masked(before, spec, look)


def _looking(
    context: Context, before: StageNetwork, groups: Groups, spec: Sparsify, seed: int, number: str
) -> Look:
    """What the criterion may look at, of any variables. Data are read only where it needs them."""
    if spec.source:
        own_parts.refuse_changed(spec.criterion, own_criterion.KEY, spec.source)
    key = member_key(seed, f"criterion{number}")
    needs = own_criterion.criterion_of(spec.criterion).needs - {"key"}
    if not needs:
        return lambda variables: Evidence(variables, groups, key=key)
    seen = groups if cuts_channels(spec.granularity) else ()
    return looking(context.data, before, seen, needs, spec.evidence, seed, key)


def _choice(
    context: Context, before: StageNetwork, groups: Groups, spec: Sparsify, look: Look, seed: int
) -> tuple[Keep, Any]:
    """The channels that stay, those whose scores are highest, and the variables as compensation left them."""
    mine = choosing.wanted(before.model, groups, spec)
    if spec.in_turn:
        return in_turn.kept(before, groups, mine, spec, look)
    look, first = keeping_first(look)

    def score(variables: Any) -> Scores:
        return own_criterion.scores_of(
            spec.criterion, look(variables), mine, over=spec.over, reduce=spec.reduce
        )

    def choose(scores: Scores, step: Sparsify, so_far: Keep) -> Keep:
        if step.sensitivity is None:
            return choosing.chosen(before, mine, step, scores, so_far)
        equal = equal_damage.allocated(context.data, before, mine, step, scores, seed)
        return choosing.reached(before, step.ranking, equal)

    steps = iterations.filter_steps(before, mine, spec)
    keep = iterated.iterated_keep(before.variables, groups, score, choose, steps)
    return keep, in_turn.compensated_by(spec, first[0], keep)


def _mask_of_cut(before: StageNetwork, groups: Sequence[Group], keep: Keep) -> Any:
    """The mask that training held, cut as the network is. None where all that it pruned is cut."""
    if before.mask is None:
        return None
    params = before.variables["params"]
    whole = jax.tree.map(lambda mask, leaf: np.broadcast_to(mask, np.shape(leaf)), before.mask, params)
    cut = surgery.shrink({"params": whole}, groups, keep)["params"]
    return None if all(np.all(leaf) for leaf in jax.tree.leaves(cut)) else cut


def _masked(before: StageNetwork, spec: Sparsify, look: Look) -> StageNetwork:
    """The network with its weights of the lowest scores at zero, and the mask that holds them there."""
    params, ranking = before.variables["params"], spec.ranking
    ratio: Any = dict(spec.ratios)
    layers = tuple(map(glob.escape, ratio))
    scope: dict[str, Any] = {}
    compared: dict[str, Any] = {}
    if ranking is not None:
        ratio, layers = ranking.ratio, tuple(ranking.layers) or networks.default_patterns(before.model)
        scope = {"scope": "global", "where": layers}
        compared = {"normalise": allocation.NORMALISERS[ranking.normalise], "at_least": ranking.at_least}
    facts, first = keeping_first(lambda held: part_of(look({**before.variables, "params": held}), "params"))

    def score(held: Any) -> Scores:
        return own_criterion.weight_scores_of(spec.criterion, facts(held), layers)

    def choose(scores: Scores, ratio: Any, mask: Any) -> Any:
        return mask_of(
            params,
            scores,
            spec.granularity,
            ratio,
            block=spec.block,
            pad=spec.pad,
            before=mask,
            **scope,
            **compared,
        )

    steps = iterated.mask_ratios(params, ratio, spec.iterations, before=before.mask, **scope)
    mask = iterated.iterated_mask(params, score, choose, steps, before.mask)
    left = masks.apply_mask(in_turn.compensated_by(spec, first[0], mask), mask)
    return before._replace(variables={**before.variables, "params": left}, mask=mask)
