"""Jacobian singular values at the ends of a chain's stages, from their checkpoints. Nothing is trained for them."""

from typing import Any, NamedTuple

from prune_jax.experiment.arm import Arm
from prune_jax.experiment.chain import restore
from prune_jax.experiment.specs import Measure, Sparsify
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.cohort import Context
from prune_jax.experiment.training.measure import JACOBIAN, jacobian_entry


class Point(NamedTuple):
    """A network along a chain: its name, the stage whose checkpoint holds it, where a history may tell of it.

    ``told`` is a stage's id and a place in its history.
    """

    name: str
    stage: str
    told: tuple[str, int] | None


def measure_missing(context: Context, arm: Arm) -> None:
    """Measure what ``context.measure`` asks for at the ends of finished stages and is not on disk yet.

    Raises BusyError when another process is at one of these stages.
    """
    _say_what_no_checkpoint_tells(context, arm)
    for point in missing(context.store, arm, context.measure):
        with leases.held(context.store.locks, [point.stage]):
            if _found(context.store, point, context.measure) is None:
                _measure(context, point)


def _measure(context: Context, point: Point) -> None:
    asked = context.measure
    network = restore.load(context.store, point.stage, before_recovery=point.name == "before_recovery")
    entry = jacobian_entry(network, context.data.test_images[: asked.jsv_examples], asked)
    disk.save_measured(context.store, point.stage, _file(point, asked), entry)


def missing(store: disk.Store, arm: Arm, asked: Measure) -> list[Point]:
    """The points whose measurement is neither in a history nor beside a stage. None when none is asked for."""
    if not asked.jsv_examples:
        return []
    points = dict.fromkeys(point for ids in arm.ids for point in _points(arm, ids, asked))
    return [point for point in points if _found(store, point, asked) is None]


def at_ends(store: disk.Store, arm: Arm, ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What is known of each point of one seed's chain, ``ids``: ``mean_jsv``, its error and, if asked, ``spectrum``."""
    if not arm.measure.jsv_examples:
        return {}
    found = {point.name: _found(store, point, arm.measure) for point in _points(arm, ids, arm.measure)}
    return {name: entry for name, entry in found.items() if entry is not None}


def _say_what_no_checkpoint_tells(context: Context, arm: Arm) -> None:
    ids = [chain[-1] for chain in arm.ids]
    abouts = [(its_id, disk.read_stage(context.store, its_id)) for its_id in ids]
    gaps = [
        i for i, about in abouts if about and not context.measure.same_values(Measure(**about["measure"]))
    ]
    if gaps and context.measure.jsv_examples:
        context.progress.line(
            f"stages {', '.join(gaps)} were trained without this measurement of the Jacobian: it is taken before "
            f"and after them, from checkpoints; for the curve remove their folders in {context.store.root / 'stages'}"
        )


def _points(arm: Arm, ids: tuple[str, ...], asked: Measure) -> list[Point]:
    """Before pruning ('base'), after the last cut ('before_recovery'), where training goes on ('start') and at the end.

    Scratch's random start is kept nowhere: it is measured in training or not at all.
    """
    points = [Point("end", ids[-1], (ids[-1], -1))]
    cuts = [i for i, spec in enumerate(arm.chain) if isinstance(spec, Sparsify)]
    if cuts:
        last = cuts[-1]
        spec: Any = arm.chain[last]
        trained = next(i for i in range(last, len(ids)) if hasattr(arm.chain[i], "train"))
        points += [Point("base", ids[0], (ids[0], -1)), Point("start", ids[trained - 1], (ids[trained], 0))]
        changed = spec.recovery != "none" or trained > last + 1  # such as by rewinding
        if changed and asked.jsv == "spectrum":
            points.append(Point("before_recovery", ids[last], None))
    return points


def _found(store: disk.Store, point: Point, asked: Measure) -> dict[str, Any] | None:
    told = None
    if point.told is not None:
        about = disk.read_stage(store, point.told[0])
        if about is not None and asked.same_values(Measure(**about["measure"])):
            told = about["history"][point.told[1]]
    for entry in (told, disk.read_measured(store, point.stage, _file(point, asked))):
        if entry is not None and ("spectrum" if asked.jsv == "spectrum" else "mean_jsv") in entry:
            return {name: entry[name] for name in JACOBIAN if name in entry}
    return None


def _file(point: Point, asked: Measure) -> str:
    suffix = "-before_recovery" if point.name == "before_recovery" else ""
    return f"jsv-{asked.jsv_examples}-{asked.jsv_budget}{suffix}"
