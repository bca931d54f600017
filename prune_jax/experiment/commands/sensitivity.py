"""``python -m prune_jax sensitivity --checkpoint=RUN``: what a finished stage loses when one group alone is pruned.

Nothing is trained. Channels or weights of one group at a time are set to zero, and accuracy and loss are measured in
evaluation mode, right after pruning.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Draw = Callable[..., bool]
MEASURES = ("accuracy", "loss")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``sensitivity``."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a finished stage: WORKDIR/stages/ID, or WORKDIR/ID; the first digits of the id are enough",
    )
    parser.add_argument(
        "--measure",
        choices=MEASURES,
        default="accuracy",
        help="what is shown (accuracy, of a text bits per byte)",
    )
    parser.add_argument(
        "--ratios", default="0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", help="fractions removed (0.1 to 0.9)"
    )
    parser.add_argument("--criterion", default="l1", help="which channels or weights go first (l1)")
    parser.add_argument(
        "--granularity", choices=("filter", "unstructured"), default="filter", help="channels, or weights"
    )
    parser.add_argument(
        "--pattern", action="append", default=[], help="glob over names of groups, repeatable; by default all"
    )
    parser.add_argument("--dataset", help="another data set than the stage's, of the same input shape")
    parser.add_argument("--data_dir", help="where data sets are; by default TFDS's own folder")
    parser.add_argument("--examples", type=int, help="test examples; by default 512, or all if fewer")
    parser.add_argument(
        "--batch", type=int, default=512, help="examples at once (512); less takes less memory"
    )
    parser.add_argument(
        "--png", help="where the heat map goes; by default WORKDIR/figures/sensitivity_ID.png"
    )


def run(args: argparse.Namespace, draw: Draw) -> int:
    """Print the table and draw the heat map. Returns 0, or 2 with one line on bad input."""
    from prune_jax.experiment.commands.refusals import exit_code

    return exit_code("sensitivity", lambda: report(args, draw))


def report(args: argparse.Namespace, draw: Draw) -> None:
    """Measure, print, draw. An error that ``run`` knows, naming what is wrong, before anything is measured."""
    from prune_jax.experiment.commands import damage, spectrum, spectrum_images

    for name in ("examples", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}={value}: it must be at least 1")
    ratios = read_ratios(args.ratios)
    damage.refuse_criterion(args.criterion, args.granularity)
    root, stage_id = spectrum.find_stage(args.checkpoint)
    network = damage.loaded(root, stage_id)
    names, left_out = damage.chosen(network, args.granularity, args.pattern, args.criterion)
    name = args.dataset or network.data.name
    images, labels = spectrum_images.examples(network, name, args.data_dir, args.examples)
    found = damage.measured(network, names, args, ratios, images, labels)
    print(f"stage {stage_id}: {network.model.name}, {len(images)} test examples of {name}")
    of_text = bool(network.data.window) and args.measure == "accuracy"
    shown = "bits per byte" if of_text else args.measure
    print(f"{shown} when one {damage.UNITS[args.granularity]} alone loses its lowest by {args.criterion}\n")
    values, dense = found.values[..., MEASURES.index(args.measure)], found.dense[MEASURES.index(args.measure)]
    print(table(names, ratios, values, float(dense)))
    for text in left_out:
        print(f"left out: {text}")
    png = Path(args.png) if args.png else root / "figures" / f"sensitivity_{stage_id}.png"
    label = "test accuracy (%)" if args.measure == "accuracy" else "test loss (nats)"
    label = "test bits per byte" if of_text else label
    title = f"{network.model.name}, stage {stage_id}, whole: {dense:.4g}"
    drawn = draw(names, ratios, values, label, title, png)
    print(f"\nheat map: {png}" if drawn else "\nno heat map: it needs matplotlib, pip install matplotlib")


def read_ratios(text: str) -> tuple[float, ...]:
    """Rising numbers above 0, at most 1, from ``'0.1,0.5'``. ValueError naming what can't be read."""
    try:
        ratios = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--ratios={text!r} aren't numbers joined by commas, such as 0.1,0.5,0.9") from None
    if list(ratios) != sorted(set(ratios)) or not 0 < ratios[0] <= ratios[-1] <= 1:
        raise ValueError(f"--ratios={text!r}: ratios are fractions removed, rising, above 0 and at most 1")
    return ratios


def table(names: Sequence[str], ratios: Sequence[float], values: Any, dense: float) -> str:
    """A line for each group, a column for each ratio. The first column is the whole network's."""
    from prune_jax.text_table import aligned

    rows = [["group", "0", *(f"{ratio:g}" for ratio in ratios)]]
    rows += [
        [name, f"{dense:.4g}", *(f"{v:.4g}" for v in row)] for name, row in zip(names, values, strict=True)
    ]
    return aligned(rows)
