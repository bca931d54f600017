"""One call from a model to a smaller one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from prune_jax.pruning import allocation
from prune_jax.pruning.compensation import compensated, grown, keeping_first
from prune_jax.pruning.cost import Cost, cost_of_keeps
from prune_jax.pruning.criteria.checking import checked_scores
from prune_jax.pruning.criteria.criterion import name_of
from prune_jax.pruning.evidence import Evidence
from prune_jax.pruning.granularity import cuts_channels
from prune_jax.pruning.heads import head_groups
from prune_jax.pruning.inputs.axis_check import refuse_other_orders
from prune_jax.pruning.isomorphism import ranks_of
from prune_jax.pruning.iterated import iterated_keep, iterated_mask, mask_ratios
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.pruning.keep import Keep, checked, composed
from prune_jax.pruning.layouts.blocks import block_counts
from prune_jax.pruning.layouts.naming import mask_of
from prune_jax.pruning.layouts.unstructured import chosen as weights_of
from prune_jax.pruning.masks import apply_mask, expand
from prune_jax.pruning.module.asked import Asked, asked, free_ends, refuse_transformation
from prune_jax.pruning.module.choosing import (
    chosen,
    named,
    refuse_floored_weights,
    refuse_out_of_reach,
    steps_of,
)
from prune_jax.pruning.module.optimizers import cut_along
from prune_jax.pruning.module.pruned import Pruned
from prune_jax.pruning.module.scoring import (
    looking,
    refuse_lacking,
    refuse_unfit,
    refuse_unscored,
    scores_of,
)
from prune_jax.pruning.module.start import Start, cut_of, inputs_given, start_of
from prune_jax.pruning.surgery import shrink


def prune(
    target: Any,
    *inputs: Any,
    ratio: float | Mapping[str, float] | None = None,
    speedup: float | None = None,
    keep: Mapping[str, Any] | None = None,
    criterion: Any = "l1",
    scope: str = "layer",
    granularity: str = "filter",
    layers: Any = "*",
    at_least: float | int = 0.0,
    round_to: int = 1,
    over: str = "producer",
    reduce: str = "mean",
    normalise: str | None = None,
    iterations: int = 1,
    optimizer: Any = None,
    batches: Any = None,
    loss: Callable[..., Any] | None = None,
    key: jax.Array | None = None,
    masked: bool = False,
    free: Sequence[str] = (),
    compensate: bool = True,
    block: tuple[int, ...] = (4, 4),
    pad: bool = False,
) -> Pruned:
    """A smaller model of the same kind. The target itself stays as it is.

    Say how much goes by one of ``ratio``, ``speedup`` and ``keep``.

    Args:
      target: an ``nnx.Module``, an Equinox module or another callable pytree, a Keras model, or a pair:
        ``(linen_module, variables)``, ``(haiku transformed, params)``, ``(apply, params)`` with any traceable
        ``apply(params, *inputs)``. Also what an earlier call returned, or ``(pruned, variables)`` with new variables
        where that has no model.
      *inputs: what the model is called with, arrays or ``jax.ShapeDtypeStruct``. Python numbers, strings and None are
        bound: the pruned ``apply`` takes the arrays alone.
      ratio: the fraction of channels removed, of the network as it is. With scope 'layer' also a mapping of patterns
        over group names to fractions.
      speedup: MACs of the network as it is over those that are left. The smallest ratio that reaches it is taken.
      keep: group name -> indices of the channels that stay, instead of a criterion's choice.
      criterion: a name of the table (``prune_jax.pruning.criteria.table``), a ``Criterion``, or a function of
        ``Evidence`` that returns group name -> scores (channels,). With granularity 'unstructured' it returns leaf
        path -> scores of the leaf's shape.
      scope: 'layer' prunes every group alike. 'global' ranks all channels together. 'isomorphic' ranks together
        groups that are built alike.
      granularity: 'filter', or 'head' for attention heads alone. With masks: 'unstructured' for single weights,
        'block' for blocks of them, and '2:4', or any N:M, which leaves N of each M along a kernel's inputs and takes
        no ratio.
      layers: a pattern over group names, or several. Of an nnx module also an nnx filter of the leaf that makes a
        group.
      at_least: what every group keeps: a fraction (float) or a number of channels (int).
      round_to: kept channels are rounded up to a multiple of it.
      over: 'producer' scores the weights that make a channel, 'coupled' all kernels that make or read it.
      reduce: of 'coupled', how their scores become one: 'mean', 'sum', 'max', 'product' or 'first'.
      normalise: makes groups comparable where they are ranked together: 'none', 'mean', 'max', 'norm', 'standardise' or
        'lamp'. None: 'mean' for channels, 'none' for single weights.
      iterations: what is left is scored anew so many times, a smaller part of it each time. SynFlow takes 100.
      optimizer: an optax state or an ``nnx.Optimizer``, cut along.
      batches: an iterable of batches for criteria that need data.
      loss: ``loss(model, batch)`` of an nnx module or callable, ``loss(variables, batch)`` of others. It returns a
        scalar.
      key: a PRNG key, for criteria that draw.
      masked: masks instead of surgery. Groups that no mask can stand for stay dense.
      free: of 'inputs' and 'outputs', which ends of the network may lose channels (the last axis of floats). The small
        model takes inputs without the channels that went, ``x[..., pruned.keep[name]]``.
      compensate: whether weights are changed that the criterion changes besides choosing, as 'flap', 'thinet',
        'channel_lasso' and 'sparsegpt' do.
      block: inputs and outputs of a block.
      pad: the last M of a kernel, or a block at its edge, may be smaller. Else a kernel that doesn't fit is refused.

    Returns:
      The small model, its variables, and the decision, as a ``Pruned``.

    Raises:
      TypeError: the target is no model, or can't be traced.
      ValueError: an argument is wrong, in one line.

    Example:
      >>> net = nnx.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
      >>> prune(net, jnp.ones((1, 4)), ratio=0.5).model.layers[0].out_features
      4
    """
    what = asked(
        criterion, granularity, ratio=ratio, speedup=speedup, keep=keep, scope=scope, layers=layers,
        at_least=at_least, round_to=round_to, batches=batches, loss=loss, key=key, masked=masked,
        over=over, reduce=reduce, normalise=normalise, iterations=iterations, compensate=compensate,
        block=block, pad=pad,
    )  # fmt: skip
    refuse_lacking(what)
    refuse_transformation(optimizer)
    start = start_of(target, inputs, free_ends(free))
    if not cuts_channels(granularity):
        return _single_weights(start, what, optimizer)
    costs = _costs(start)
    now, start = _decided(start, what, costs)
    if masked:
        return _masked(start, composed(start.keep, now), optimizer, costs)
    total = composed(start.keep, now)
    return carried_out(start, now, inputs_given(start, inputs), optimizer, costs({}), costs(total))


def _costs(start: Start) -> Callable[[Mapping[str, Any]], Cost]:
    """The exact cost of a keep of the dense network."""
    dense = start.dense
    return cost_of_keeps(
        dense.apply, dense.variables, *dense.inputs, counted=dense.source.counted, analysis=dense.analysis
    )


def _decided(start: Start, what: Asked, costs: Callable[[Keep], Cost]) -> tuple[Keep, Start]:
    """Which channels of the network as it is stay, and the network with the criterion's compensation."""
    groups = start.now
    if what.keep is not None:
        try:
            keep = checked(groups, what.keep)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        if what.masked:
            _refuse_unmaskable(groups, keep)
        return keep, start
    taken = start.dense.source.taken
    mine = named(groups, what.layers, taken and taken.types)
    if what.granularity == "head":
        mine = list(head_groups(mine, start.variables))
    if isinstance(what.ratio, Mapping):
        allocation.chosen(groups, tuple(what.ratio))  # a pattern that fits no group is refused
    if what.masked:
        mine = [group for group in mine if group.maskable]
    refuse_unfit(what, mine)
    look, first = keeping_first(
        looking(what, start.variables, groups, start.twin(start.keep), start.called, start.dense.inputs)
    )
    ranks, name = ranks_of(start.dense.variables), name_of(what.criterion)
    refuse_out_of_reach(what, mine, ranks)

    def macs(keep: Keep) -> int:
        return costs(composed(start.keep, keep)).macs

    keep = iterated_keep(
        start.variables,
        groups,
        lambda held: checked_scores(
            scores_of(what, look(held)), mine, f"criterion is {name!r}", "layers", needs=what.criterion.needs
        ),
        lambda scores, step, so_far: chosen(step, mine, scores, macs, ranks, so_far),
        steps_of(what),
    )
    return keep, _compensated(start, what, first[0], keep)


def _compensated(start: Start, what: Asked, facts: Evidence, keep: Keep) -> Start:
    """The network with other weights, where the criterion changes some. Nothing is cut yet."""
    if not what.compensate or what.criterion.compensate is None:
        return start
    variables = compensated(what.criterion, facts, keep)
    whole = None if start.whole is None else grown(start.whole, variables, start.groups, start.keep)
    return start._replace(variables=variables, whole=whole)


def _refuse_unmaskable(groups: Sequence[Group], keep: Keep) -> None:
    for group in groups:
        if not group.maskable and len(keep.get(group.name, range(group.size))) < group.size:
            raise ValueError(
                f"masked is True, but no mask can stand for channels of {group.name!r}: {group.unmaskable}; leave it "
                "out of keep, or cut"
            )


def carried_out(
    start: Start, now: Keep, inputs: tuple[Any, ...], optimizer: Any, before: Cost, after: Cost
) -> Pruned:
    """Surgery by ``now`` on the network as it is. The costs are those of the dense and of the pruned network."""
    dense, total = start.dense, composed(start.keep, now)
    small = shrink(start.variables, start.now, now)
    cut = cut_of(start, total, small, inputs)
    remade = dense.source.remake(cut)
    along = (start.now, now) if start.mask is None else (start.groups, total)
    return Pruned(
        model=remade.model,
        apply=remade.apply,
        variables=small,
        keep=total,
        groups=start.groups,
        mask=None,
        optimizer=cut_along(optimizer, remade.model, *along),
        before=before,
        after=after,
        wrapped=remade.wrapped,
        dense=dense,
    )


def _masked(start: Start, total: Keep, optimizer: Any, costs: Callable[[Keep], Cost]) -> Pruned:
    if start.whole is None:
        raise ValueError(
            "masked is True, but the target was cut before, so its masks would be of another network"
        )
    mask = expand(start.whole, start.groups, total)
    return held(start, apply_mask(start.whole, mask), mask, total, optimizer, costs({}), costs(total))


def held(
    start: Start, variables: Any, mask: Any, keep: Keep, optimizer: Any, before: Cost, after: Cost
) -> Pruned:
    """The dense network with these variables, and a mask that training holds."""
    return Pruned(
        model=start.dense.source.filled(variables),
        apply=start.dense.apply,
        variables=variables,
        keep=keep,
        groups=start.groups,
        mask=mask,
        optimizer=optimizer,
        before=before,
        after=after,
        wrapped=None,
        dense=start.dense,
    )


def _single_weights(start: Start, what: Asked, optimizer: Any) -> Pruned:
    """Masks of single weights. An earlier mask stays, and counts."""
    _refuse_cut_before(start, what)
    look, first = keeping_first(
        looking(what, start.whole, (), start.dense.apply, start.called, start.dense.inputs)
    )
    where = (what.layers,) if isinstance(what.layers, str) else tuple(what.layers)
    how: dict[str, Any] = {"scope": what.scope, "where": where}
    _refuse_unfit_weights(start, what, where)
    normalise = None if what.normalise is None else allocation.NORMALISERS[what.normalise]

    def score(held: Any) -> Any:
        scores = scores_of(what, look(held))
        refuse_unscored(what, start.whole, where, scores)
        return scores

    def choose(scores: Any, ratio: Any, mask: Any) -> Any:
        return mask_of(
            start.whole, scores, what.granularity, ratio, normalise=normalise, at_least=float(what.at_least),
            before=mask, block=what.block, pad=what.pad, **how,
        )  # fmt: skip

    # A pattern takes no ratio: one step asks for whatever it says.
    ratio: Any = what.ratio
    steps = mask_ratios(start.whole, ratio, what.iterations, before=start.mask, **how)
    mask = iterated_mask(start.whole, score, choose, steps, start.mask)
    mask = jax.tree.map(lambda stays, leaf: jax.numpy.asarray(stays, _number(leaf)), mask, start.whole)
    cost = _costs(start)({})
    whole = compensated(what.criterion, first[0], mask) if what.compensate else start.whole
    masked, after = apply_mask(whole, mask), cost._replace(params=_left_by(mask, start))
    return held(start, masked, mask, start.keep, optimizer, cost, after)


def _left_by(mask: Any, start: Start) -> int:
    """How many params a mask of single weights leaves."""
    return sum(
        int(jax.numpy.count_nonzero(stays)) if stays.size == leaf.size else leaf.size
        for (path, stays), (_, leaf) in zip(leaf_paths(mask), leaf_paths(start.whole), strict=True)
        if start.dense.source.counted(path)
    )


def _refuse_cut_before(start: Start, what: Asked) -> None:
    if start.whole is None:
        raise ValueError(
            f"granularity is {what.granularity!r}, but channels of the target were cut before; pass its model or "
            "(apply, variables)"
        )


def _refuse_unfit_weights(start: Start, what: Asked, where: tuple[str, ...]) -> None:
    """Raise ValueError for kernels whose layout a granularity can't read, or that can't lose so much."""
    if what.granularity != "unstructured":
        paths = weights_of(start.whole, where)
        refuse_other_orders(start.dense.apply, start.whole, *start.dense.inputs, paths=paths)
    if what.ratio is not None:
        refuse_floored_weights(what, _unit_counts(start.whole, what, where))


def _unit_counts(params: Any, what: Asked, where: tuple[str, ...]) -> dict[str, int]:
    """How many units each layer has that a ratio counts: blocks, or single weights."""
    if what.granularity == "block":
        return block_counts(params, (what.block[0], what.block[1]), where, pad=what.pad)
    leaves = dict(leaf_paths(params))
    return {name: int(np.size(leaves[path])) for name, path in weights_of(params, where).items()}


def _number(leaf: Any) -> Any:
    return leaf.dtype if jax.numpy.issubdtype(leaf.dtype, jax.numpy.number) else "float32"
