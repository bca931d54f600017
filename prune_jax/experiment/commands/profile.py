"""``--profile=n``: n steps of a sweep's first run under JAX's profiler."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from prune_jax.experiment.arm import Arm
from prune_jax.experiment.chain.train import fresh, recipe_of
from prune_jax.experiment.config import sweep as config_sweep
from prune_jax.experiment.config.dataset import open_dataset, spec_of
from prune_jax.experiment.devices.mesh import placement, put_whole
from prune_jax.experiment.devices.replicas import stacked
from prune_jax.experiment.dry_run import widths_along
from prune_jax.experiment.networks import steps_per_epoch
from prune_jax.experiment.own.network import first
from prune_jax.experiment.storage.folder import claim
from prune_jax.experiment.training.cohort import member_key
from prune_jax.experiment.training.feed import Halfway, open_feed
from prune_jax.experiment.training.inputs import DeviceData, Inputs, prepared
from prune_jax.experiment.training.trainer import make_trainer
from prune_jax.experiment.twins import channels_of


def profile(
    config: ConfigDict,
    sweep: config_sweep.Sweep | None,
    workdir: Path,
    steps: int,
    claimed: Callable[[Path], None] = lambda root: None,
) -> Path:
    """Trace ``steps`` training steps, compiled before, into the folder ``workdir/profile``, which is returned.

    They are those of the first run's first training stage, from random weights. No stage is begun. ``claimed`` is
    as in ``launch.launch``. Raises ValueError for a number that is not within an epoch, and as a launch does before
    any work.
    """
    dataset = open_dataset(config)
    arm = config_sweep.plan_arms(config, sweep, dataset)[0]
    spec = next(stage for stage in arm.chain if hasattr(stage, "train"))
    on = prepared(dataset, spec_of(config, dataset), [arm.mesh], config.dataset.workers, 0)[arm.mesh.devices]
    whole = steps_per_epoch(on.train_size, spec.train.batch_size)
    if not 1 <= steps <= whole:
        raise ValueError(
            f"--profile={steps}: an epoch of {dataset.name} has {whole} steps; give 1 to {whole}"
        )
    claim(workdir, config.experiment)
    claimed(workdir)
    folder = workdir / "profile"
    _trace(arm, spec, on, steps, folder)
    return folder


def _trace(arm: Arm, spec: Any, on: Inputs, steps: int, folder: Path) -> None:
    """Run ``steps`` steps to compile them, and once more under the profiler."""
    seeds = arm.seeds if arm.execution.replicas == "vmap" else arm.seeds[:1]
    recipe = recipe_of(arm, spec)
    widths = widths_along(arm)[arm.chain.index(spec)]  # dense where only the scores will tell
    channels = channels_of(arm.model, first(widths or {}))
    recipe = recipe._replace(mesh=recipe.mesh.for_cohort(len(seeds)), channels=channels)
    trainer, batch = make_trainer(recipe), recipe.batch_size
    variables = [fresh(arm.model, widths, seed) for seed in seeds]
    state = trainer.init(stacked(variables))
    keys = put_whole(placement(recipe.mesh), jnp.stack([member_key(seed, "profile") for seed in seeds]))
    start = Halfway(steps_per_epoch(on.train_size, batch) - steps, (0.0,) * len(seeds))
    lrs = np.zeros(start.step + steps, np.float32)
    if isinstance(on, DeviceData):  # an epoch on the device is one whole: one of so many steps
        rows = steps * batch
        on = on._replace(train_images=on.train_images[:rows], train_labels=on.train_labels[:rows])
        start, lrs = Halfway(), lrs[:steps]
    feed = open_feed(trainer, recipe, on, keys, seeds[0], {})
    try:
        state, _ = feed.run(state, 0, lrs, start, lambda: False, lambda *_: None)
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            state, _ = feed.run(state, 0, lrs, start, lambda: False, lambda *_: None)
            jax.block_until_ready(state)
    finally:
        feed.close()
