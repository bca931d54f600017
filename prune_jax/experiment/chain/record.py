"""From finished stages to the record that states what a run was and gave."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from prune_jax import fairness
from prune_jax.experiment import networks
from prune_jax.experiment.arm import Arm, Link, links
from prune_jax.experiment.chain import distilling, end_spectra, masked_costs, restore
from prune_jax.experiment.chain.kinds import kind_of
from prune_jax.experiment.chain.sparsify import scored_by, units_of
from prune_jax.experiment.config import optimizer_keys, plateau_rule
from prune_jax.experiment.config.dataset import augmentation_of, dataset_name
from prune_jax.experiment.own.regularizer import regularizer_of
from prune_jax.experiment.processes import slurm
from prune_jax.experiment.specs import (
    DataSpec,
    Gradual,
    Initialise,
    Measure,
    ModelSpec,
    Regularise,
    Retrain,
    Rewind,
    Scratch,
    SparseScratch,
    Sparsify,
    Stage,
)
from prune_jax.experiment.storage import stages as disk
from prune_jax.experiment.training.judging import metric_of
from prune_jax.experiment.training.measure import JACOBIAN
from prune_jax.fairness.decode import decode
from prune_jax.pruning.cost import Cost
from prune_jax.pruning.granularity import ceiling, cuts_channels

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
CONVENTION = "macs"  # multiply-accumulates of convolutions and dense layers only, as in the paper's Table 4


def make_record(store: disk.Store, arm: Arm, command: str) -> fairness.RunRecord:
    """The record of a run whose stages are all finished in ``store``."""
    dense, costs = networks.cost_of(arm.model), costs_of(store, arm)
    small = [along[-1] for along in costs]
    results = tuple(_result(store, arm, i, small) for i in range(len(arm.seeds)))
    stages = tuple(
        masked_costs.with_masked(
            store,
            link,
            kind_of(link.spec).recorded(
                link, _mean(along[link.position].macs for along in costs), _lengths(store, link)
            ),
        )
        for link in links(arm)
    )
    last: Any = arm.chain[-1]
    return fairness.RunRecord(
        name=arm.label,
        dataset=dataset_name(last.data),
        network=network_name(arm.model),
        method=method_name(arm.chain),
        axes=axes_of(arm),
        costs=fairness.Costs(
            CONVENTION,
            dense.macs,
            _mean(cost.macs for cost in small),
            dense.params,
            _mean(cost.params for cost in small),
        ),
        stages=stages,
        results=results,
        optimiser=optimizer_keys.stated_in_record(last.train),
        augmentation=augmentation_of(last.data),
        versions=versions(),
        device=device_name(),
        commit=commit(),
        command=command,
        job=slurm.current(os.environ),
        seconds=_seconds(store, arm),
        config=arm.config,
        metric=_metric(last.data),
        settings=distilling.stated(arm.chain),
    )


def _lengths(store: disk.Store, link: Link) -> set[int]:
    """The epochs that the seeds took in a stage. Empty for a stage that trains nothing."""
    if not kind_of(link.spec).trains:
        return set()
    abouts = [disk.read_stage(store, its_id) or {} for its_id in link.ids]
    return {about["history"][-1]["epoch"] for about in abouts}


def _metric(data: DataSpec) -> fairness.Metric | None:
    """What the values measure. Unstated where it is accuracy."""
    return metric_of(data) if data.window else None


def _seconds(store: disk.Store, arm: Arm) -> dict[str, list[float]]:
    """What the sparsifying actions of each seed took together.

    Empty where there are none, or where one doesn't tell.
    """
    acts = [link.ids for link in links(arm) if isinstance(link.spec, Sparsify)]
    told = [[(disk.read_stage(store, its_id) or {}).get("seconds") for its_id in ids] for ids in acts]
    if not told or any(None in each for each in told):
        return {}
    return {"sparsify": [sum(each) for each in zip(*told, strict=True)]}


def costs_of(store: disk.Store, arm: Arm) -> list[list[Cost]]:
    """Costs of the network after each stage, for each seed, from what the stages kept.

    A mask leaves the multiply-accumulates as they are. Of the params, those that it holds at zero are left out.
    """
    whole = [restore.lineage_of(store, ids[-1]) for ids in arm.ids]  # the last stage first
    return [[_cost_after(arm, lineage[i:]) for i in reversed(range(len(lineage)))] for lineage in whole]


def _cost_after(arm: Arm, lineage: restore.Lineage) -> Cost:
    cost = networks.cost_of(arm.model, restore.widths_after(lineage))
    return cost._replace(params=cost.params - restore.masked_params(lineage))


def _mean(values: Iterable[int]) -> float | int:
    """The mean. Where all numbers are alike, that number, so that a whole one stays whole."""
    found = list(values)
    return found[0] if len(set(found)) == 1 else sum(found) / len(found)


def network_name(model: ModelSpec) -> str:
    """The network's name. One of the user's own has the first digits of its file's hash, as two files may differ."""
    return f"{model.name}@{model.source[:8]}" if model.source else model.name


def method_name(chain: tuple[Stage, ...]) -> str:
    """Criterion and recovery of a pruning chain, e.g. ``l1`` or ``l1+orthp@2``, the recovery's second version.

    ``greg1, l1``: the network was trained under a penalty before the cut.
    ``l1+rewind0``: the weights that are left go back to epoch 0. ``l1 at init``: random weights were pruned. ``rigl``:
    the mask rule that a network trained under. ``sfp, l1``: it was cut after that. ``wanda in turn``: layer by layer.
    """
    if isinstance(chain[0], Scratch):
        return "scratch"
    masked = "".join(
        f"{stage.masking.rule}, " for stage in chain if isinstance(stage, Gradual | SparseScratch)
    )
    spec = next((stage for stage in reversed(chain) if isinstance(stage, Sparsify)), None)
    if spec is None:
        early = " at init" if masked and isinstance(chain[0], Initialise) else ""
        return f"{masked.removesuffix(', ')}{early}" if masked else "dense"
    version = "" if spec.recovery_version == 1 else f"@{spec.recovery_version}"
    recovered = "" if spec.recovery == "none" else f"+{spec.recovery}{version}"
    back = next((f"+rewind{stage.to}" for stage in reversed(chain) if isinstance(stage, Rewind)), "")
    early = " at init" if isinstance(chain[0], Initialise) else ""
    turn = " in turn" if spec.in_turn else ""
    return f"{pushed_by(chain)}{masked}{spec.criterion}{turn}{early}{recovered}{back}"


def pushed_by(chain: tuple[Stage, ...]) -> str:
    """The regularisers that a chain trains under, each once, with a comma behind each. '' where there are none.

    One whose numbers switch it off is 'no penalty': the control that trains as long.
    """
    names = dict.fromkeys(_name_of(stage) for stage in chain if isinstance(stage, Regularise))
    return "".join(f"{name}, " for name in names)


def _name_of(stage: Regularise) -> str:
    off, told = regularizer_of(stage.regularizer).neutral, dict(stage.arguments)
    return "no penalty" if all(told.get(key) == value for key, value in off.items()) else stage.regularizer


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in PACKAGES
    }


def device_name() -> str:
    """Number, kind and platform of the devices."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def commit() -> str | None:
    """The commit of the checkout that this package runs from, with ``+changes`` where files differ from it.

    None outside a checkout.
    """
    here = str(Path(__file__).parents[1])
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", here)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+changes" * bool(changed)


def _git(folder: str, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def axes_of(arm: Arm) -> fairness.Axes:
    """The five axes of a run's method (§2.1)."""
    cuts = [stage for stage in arm.chain if isinstance(stage, Sparsify)]
    masked = next((stage for stage in arm.chain if isinstance(stage, Gradual | SparseScratch)), None)
    if masked is not None and not cuts:
        return masked_costs.axes(masked.masking, arm.chain[0])
    ratios = sorted({ratio for _, ratio in arm.ratios})
    text = str(ratios[0]) if len(ratios) == 1 else str([list(pair) for pair in arm.ratios])
    if not cuts:
        whole = not isinstance(arm.chain[0], Scratch)
        return fairness.Axes("random", "filter", "0" if whole else text, "none", "none")
    last, ranking = cuts[-1], cuts[-1].ranking
    if not cuts_channels(last.granularity) and len(ratios) > 1:  # no other allocation gives masks several
        text = f"erk {_together(arm.model, last):.4g}"
    if ranking is not None:
        text = f"speedup {ranking.speedup:g}" if ranking.speedup else f"{ranking.scope} {ranking.ratio:g}"
    pushed = pushed_by(arm.chain)
    schedule = "iterative" if len(cuts) > 1 else "progressive" if pushed or masked else "one-shot"
    base = "random" if isinstance(arm.chain[0], Initialise) else "pretrained"
    return fairness.Axes(base, units_of(last), text, pushed + scored_by(last), schedule)


def _together(model: ModelSpec, cut: Sparsify) -> float:
    """The fraction of weights, or of blocks, that is gone of all layers together."""
    sizes = networks.sizes_of(model, ("*",), cut)
    return sum(ceiling(ratio, sizes[name]) for name, ratio in cut.ratios) / sum(
        sizes[name] for name, _ in cut.ratios
    )


def _result(store: disk.Store, arm: Arm, number: int, small: list[Cost]) -> fairness.SeedResult:
    """One seed: its curve through all rounds, and what was measured on the checkpoints at its stages' ends."""
    chain, last = arm.ids[number], arm.chain[-1]
    assert isinstance(last, Gradual | Retrain | Scratch | SparseScratch)
    ends, curve = end_spectra.at_ends(store, arm, chain), _history(store, chain[-1], arm.measure)
    curve[0] |= ends.get("start", {})
    curve[-1] |= ends.get("end", {})
    stated: dict[str, Any] = {}
    if len(chain) > 1:
        base = _history(store, chain[0], arm.measure)[-1] | ends.get("base", {})
        cut = ends.get("before_recovery", ends.get("start", {}))
        stated = {
            "base_accuracy": base["test_accuracy"],
            "base_mean_jsv": base.get("mean_jsv"),
            "base_spectrum": _spectrum(base),
            "pruned_spectrum": _spectrum(cut),
        }
    if isinstance(last, Retrain) and last.train.extend is not None:
        stated["schedule"] = plateau_rule.realised([entry["lr"] for entry in curve[1:]])
    if len({cost.macs for cost in small}) > 1:
        stated |= {"macs": small[number].macs, "params": small[number].params}
    return fairness.SeedResult.from_epochs(
        arm.seeds[number],
        _metrics(curve),
        metric=_metric(last.data),
        rounds=_rounds(store, arm, chain),
        **stated,
    )


def _rounds(store: disk.Store, arm: Arm, chain: tuple[str, ...]) -> tuple[fairness.RoundCurve, ...]:
    """The curves of the training stages between the base model and the last stage, each with its place."""
    between = range(1, len(chain) - 1)
    return tuple(
        fairness.RoundCurve(i, tuple(_metrics(_history(store, chain[i], arm.measure))))
        for i in between
        if kind_of(arm.chain[i]).trains
    )


def _metrics(curve: list[dict[str, Any]]) -> list[fairness.EpochMetrics]:
    return [fairness.EpochMetrics(**entry | {"spectrum": _spectrum(entry)}) for entry in curve]


def _spectrum(entry: dict[str, Any]) -> fairness.JSVSummary | None:
    told = entry.get("spectrum")
    return None if told is None else decode(fairness.JSVSummary, told, "spectrum")


def _history(store: disk.Store, stage_id: str, asked: Measure) -> list[dict[str, Any]]:
    """A stage's history. What it holds of the Jacobian on other examples than ``asked`` is left out."""
    about = disk.read_stage(store, stage_id)
    if about is None:
        raise disk.CheckpointError(f"stage {stage_id} is not finished under {store.root / 'stages'}")
    if not asked.jsv_examples or asked.same_values(Measure(**about["measure"])):
        return about["history"]
    return [{k: v for k, v in entry.items() if k not in JACOBIAN} for entry in about["history"]]
