"""``python -m prune_jax spectrum --checkpoint=RUN``: Jacobian singular values of a finished stage, table and PNG."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prune_jax.fairness import JSVSummary

Draw = Callable[[Mapping[str, JSVSummary], str, Path], bool]
EXAMPLES = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``spectrum``."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a finished stage: WORKDIR/stages/ID, or WORKDIR/ID; the first digits of the id are enough",
    )
    parser.add_argument("--dataset", help="another data set than the stage's, of the same input shape")
    parser.add_argument("--data_dir", help="where data sets are; by default TFDS's own folder")
    parser.add_argument("--examples", type=int, help=f"test examples; by default {EXAMPLES}, or all if fewer")
    parser.add_argument("--chunk", type=int, help="outputs pulled back at once; by default all")
    parser.add_argument("--batch", type=int, default=64, help="examples at once (64); less takes less memory")
    parser.add_argument("--png", help="where the histogram goes; by default WORKDIR/figures/spectrum_ID.png")


def run(args: argparse.Namespace, draw: Draw) -> int:
    """Print the table and draw the histogram. Returns 0, or 2 with one line on bad input."""
    from absl import logging

    from prune_jax.experiment.store import CheckpointError

    logging.set_verbosity(logging.FATAL)  # TFDS talks; what goes wrong reaches us as an exception
    try:
        report(args, draw)
    except (ValueError, OSError, CheckpointError) as error:
        print(f"spectrum: {error}", file=sys.stderr)
        return 2
    return 0


def report(args: argparse.Namespace, draw: Draw) -> None:
    """Measure, print, draw. ValueError or CheckpointError naming what is wrong before anything is measured."""
    import jax.numpy as jnp

    from prune_jax import data, trainability
    from prune_jax.experiment import measuring, stage_network

    for name in ("examples", "chunk", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}={value}: it must be at least 1")
    root, stage_id = find_stage(args.checkpoint)
    network = stage_network.load(_reading(root), stage_id)
    _refuse_not_finite(network.variables, stage_id)
    name = args.dataset or network.data.name
    dataset = data.load(name, split_seed=network.data.split_seed, data_dir=args.data_dir)
    _refuse_other_shape(network.model, dataset)
    images = jnp.asarray(dataset.test.images[: _count(args.examples, dataset)])
    floats = data.normalize(images, network.data.mean, network.data.std)
    apply = stage_network.evaluated(network)
    batches = (floats[i : i + args.batch] for i in range(0, len(floats), args.batch))
    spectrum = trainability.spectrum(apply, batches, chunk=args.chunk)
    print(f"stage {stage_id}: {network.model.name}, {len(images)} test examples of {name}\n")
    print(table(spectrum))
    png = Path(args.png) if args.png else root / "figures" / f"spectrum_{stage_id}.png"
    title = f"{network.model.name}, stage {stage_id}, {len(images)} examples of {name}"
    draw({f"stage {stage_id}": measuring.summary(spectrum)}, title, png)
    print(f"\nhistogram: {png}")


def find_stage(path: str) -> tuple[Path, str]:
    """The workdir and the full id of a finished stage.

    Raises ValueError for a folder that is no workdir, an unknown id, one that several stages begin with, and a
    stage that is not finished; the message lists what there is.
    """
    given = Path(path)
    root = given.parent.parent if given.parent.name == "stages" else given.parent
    if (given / "stages").is_dir():
        raise ValueError(f"--checkpoint={path} is a workdir; name a stage in it: {_some(given)}")
    if not (root / "stages").is_dir():
        raise ValueError(f"--checkpoint={path}: there is no folder {root / 'stages'}; give WORKDIR/stages/ID")
    found = sorted(
        folder.name for folder in (root / "stages").iterdir() if folder.name.startswith(given.name)
    )
    if not found:
        raise ValueError(f"--checkpoint={path}: no stage begins with {given.name!r}; {_some(root)}")
    if len(found) > 1:
        raise ValueError(
            f"--checkpoint={path}: several stages begin with {given.name!r}: {', '.join(found[:5])}"
        )
    if not (root / "stages" / found[0] / "stage.json").is_file():
        raise ValueError(
            f"--checkpoint={path}: stage {found[0]} is not finished; run its experiment to its end"
        )
    return root, found[0]


def table(spectrum: Any) -> str:
    """A line for each statistic: the value over all examples pooled, and the mean over examples ± standard error."""
    import numpy as np

    rows = [("", "pooled", "mean over examples ± s.e.")]
    for label, field in (
        ("mean", "mean"),
        ("std", "std"),
        ("max", "max"),
        ("min (resolved)", "min"),
        ("condition (resolved)", "condition"),
        ("mean of (s - 1)^2", "isometry_gap"),
        ("log det J J^T", "log_determinant"),
    ):
        each = getattr(spectrum.per_example, field)
        known = each[np.isfinite(each)]
        mean = (
            f"{known.mean():.5g} ± {getattr(spectrum.errors, field):.2g}"
            if len(known)
            else "none is resolved"
        )
        rows.append((label, f"{getattr(spectrum.pooled, field):.5g}", mean))
    for place, probability in enumerate(spectrum.at):
        rows.append((f"quantile {probability:g}", f"{spectrum.pooled.quantiles[place]:.5g}", ""))
    values = spectrum.values.size
    lost = int(spectrum.unresolved.sum())
    rows.append(("resolved", f"{values - lost} of {values}", f"rank {spectrum.rank.mean():.4g} on average"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = f"Singular values below {spectrum.resolution:.2g} of their example's largest are not resolved."
    return "\n".join([*lines, note])


def _some(root: Path) -> str:
    names = sorted(path.parent.name for path in (root / "stages").glob("*/stage.json"))
    return f"{len(names)} are finished, such as {', '.join(names[:3])}" if names else "none is finished"


def _reading(root: Path) -> Any:
    import orbax.checkpoint as ocp

    from prune_jax.experiment.locks import open_locks
    from prune_jax.experiment.store import Store

    return Store(root, ocp.StandardCheckpointer(), open_locks(root))


def _count(asked: int | None, dataset: Any) -> int:
    available = len(dataset.test.labels)
    if asked is not None and asked > available:
        raise ValueError(f"--examples={asked}: {dataset.name} has {available} test examples")
    return min(EXAMPLES, available) if asked is None else asked


def _refuse_other_shape(model: Any, dataset: Any) -> None:
    if tuple(dataset.input_shape) != tuple(model.input_shape):
        raise ValueError(
            f"--dataset={dataset.name} has inputs {tuple(dataset.input_shape)}, but the stage's {model.name} takes "
            f"{tuple(model.input_shape)}"
        )


def _refuse_not_finite(variables: Any, stage_id: str) -> None:
    import jax
    import numpy as np

    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(np.asarray(leaf)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"leaf {name!r} of stage {stage_id} holds NaN or infinity: this network has diverged"
            )
