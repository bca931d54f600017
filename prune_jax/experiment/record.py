"""From finished stages to the record that states what a run was and gave."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from prune_jax import fairness
from prune_jax.experiment import extension, job, networks, optimizer_keys, spectra
from prune_jax.experiment import store as disk
from prune_jax.experiment.datasets import augmentation_of
from prune_jax.experiment.measuring import JACOBIAN
from prune_jax.experiment.resolve import Arm
from prune_jax.experiment.specs import (
    Imported,
    Measure,
    ModelSpec,
    Pretrain,
    Retrain,
    Scratch,
    Sparsify,
    Stage,
    chain_ids,
    kind,
    stated,
)
from prune_jax.fairness.decode import decode

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
CONVENTION = "macs"  # multiply-accumulates of convolutions and dense layers only, as in the paper's Table 4


def make_record(store: disk.Store, arm: Arm, command: str) -> fairness.RunRecord:
    """The record of a run whose stages are all finished in ``store``."""
    ids = [chain_ids(arm.chain, seed) for seed in arm.seeds]
    dense, small = (
        networks.cost_of(arm.model),
        networks.cost_of(arm.model, networks.widths_of(arm.model, arm.ratios)),
    )
    results = tuple(_result(store, arm, seed, chain) for seed, chain in zip(arm.seeds, ids, strict=True))
    lengths = {result.epochs[-1].epoch for result in results}
    stages = tuple(
        _stage(spec, tuple(chain[i] for chain in ids), dense.macs, small.macs, lengths)
        for i, spec in enumerate(arm.chain)
    )
    last = arm.chain[-1]
    assert isinstance(last, Retrain | Scratch)
    return fairness.RunRecord(
        name=arm.label,
        dataset=f"{last.data.name}/split{last.data.split_seed}",
        network=network_name(arm.model),
        method="scratch" if len(arm.chain) == 1 else method_name(arm.chain),
        axes=_axes(arm),
        costs=fairness.Costs(CONVENTION, dense.macs, small.macs, dense.params, small.params),
        stages=stages,
        results=results,
        optimiser=optimizer_keys.stated_in_record(last.train),
        augmentation=augmentation_of(last.data),
        versions=versions(),
        device=device_name(),
        commit=commit(),
        command=command,
        job=job.current(os.environ),
        config=arm.config,
    )


def network_name(model: ModelSpec) -> str:
    """The network's name; one of the user's own has the first digits of its file's hash, as two files may differ."""
    return f"{model.name}@{model.source[:8]}" if model.source else model.name


def method_name(chain: tuple[Stage, ...]) -> str:
    """Criterion and recovery of a pruning chain, e.g. ``l1`` or ``l1+orthp``."""
    spec = next(stage for stage in chain if isinstance(stage, Sparsify))
    return spec.criterion if spec.recovery == "none" else f"{spec.criterion}+{spec.recovery}"


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
    here = str(Path(__file__).parent)
    try:
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", here)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+changes" * bool(changed)


def _git(folder: str, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _stage(spec: Stage, ids: tuple[str, ...], dense: int, small: int, lengths: set[int]) -> fairness.Stage:
    """A link of the record's chain; of an imported base model the epochs and schedule are unstated.

    ``lengths``: the epochs that the seeds' last stage took, which a rule may have made differ.
    """
    if isinstance(spec, Imported):
        return fairness.Stage("pretrain", ids, None, None, dense, stated(spec))
    if isinstance(spec, Sparsify):
        return fairness.Stage(kind(spec), ids, 0, None, small, stated(spec))
    macs = dense if isinstance(spec, Pretrain) else small
    if spec.train.extend is not None:
        epochs = lengths.pop() if len(lengths) == 1 else None
        return fairness.Stage(kind(spec), ids, epochs, extension.text(spec.train), macs, stated(spec))
    return fairness.Stage(kind(spec), ids, spec.train.epochs, spec.train.schedule, macs, stated(spec))


def _axes(arm: Arm) -> fairness.Axes:
    ratios = sorted({ratio for _, ratio in arm.ratios})
    text = str(ratios[0]) if len(ratios) == 1 else str([list(pair) for pair in arm.ratios])
    spec = next((stage for stage in arm.chain if isinstance(stage, Sparsify)), None)
    if spec is None:
        assert isinstance(arm.chain[0], Scratch)
        return fairness.Axes("random", "filter", text, "none", "none")
    return fairness.Axes("pretrained", spec.granularity, text, spec.criterion, spec.schedule)


def _result(store: disk.Store, arm: Arm, seed: int, chain: tuple[str, ...]) -> fairness.SeedResult:
    """One seed: its curve, and what was measured on the checkpoints at its stages' ends."""
    ends, curve = spectra.at_ends(store, arm, seed), _history(store, chain[-1], arm.measure)
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
    last = arm.chain[-1]
    if isinstance(last, Retrain) and last.train.extend is not None:
        stated["schedule"] = extension.realised([entry["lr"] for entry in curve[1:]])
    epochs = [fairness.EpochMetrics(**entry | {"spectrum": _spectrum(entry)}) for entry in curve]
    return fairness.SeedResult.from_epochs(seed, epochs, **stated)


def _spectrum(entry: dict[str, Any]) -> fairness.JSVSummary | None:
    told = entry.get("spectrum")
    return None if told is None else decode(fairness.JSVSummary, told, "spectrum")


def _history(store: disk.Store, stage_id: str, asked: Measure) -> list[dict[str, Any]]:
    """A stage's history; of the Jacobian what it holds on other examples than ``asked`` is left out."""
    about = disk.read_stage(store, stage_id)
    if about is None:
        raise disk.CheckpointError(f"stage {stage_id} is not finished under {store.root / 'stages'}")
    if not asked.jsv_examples or asked.same_values(Measure(**about["measure"])):
        return about["history"]
    return [{k: v for k, v in entry.items() if k not in JACOBIAN} for entry in about["history"]]
