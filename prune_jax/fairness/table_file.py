"""A paper's table, typed in as CSV: its columns, which ``docs/records.md`` explains too, and its rows as text."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from prune_jax.fairness.metrics import METRICS
from prune_jax.nearest import unknown

Row = Mapping[str, str]
SETTING = "setting:"
# Column -> what stands in it. docs/records.md holds the same table.
COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "name": "what the record is called. Needed, and each once",
        "dataset": "such as cifar10",
        "network": "such as resnet56",
        "method": "such as L1-norm",
        "metric": f"what is measured: {', '.join(METRICS)}, or a name of your own. Empty: by the data set",
        "metric_unit": "of a metric of your own, % for a percentage",
        "metric_direction": "of a metric of your own: higher or lower, whichever is better",
        "value": "the mean over runs, after the last epoch: 92.34, 92.34% or 92.34 ± 0.12",
        "std": "its sample standard deviation",
        "n": "how many runs",
        "values": "instead of value: each run's, joined by semicolons: 92.1; 92.3; 92.0",
        "base_value": "the dense network's, in the same metric",
        "top5": "top-5 accuracy beside it, in percent",
        "speedup": "dense over pruned multiply-accumulates: 2.3 or 2.3x",
        "compression": "dense over pruned params",
        "dense_macs_g": "multiply-accumulates of one forward pass, in units of 1e9",
        "pruned_macs_g": "the same of the pruned network",
        "dense_params_m": "params, in units of 1e6",
        "pruned_params_m": "the same of the pruned network",
        "cost_convention": "what is counted, such as 'macs, conv+fc'",
        "latency_ms": "milliseconds of a forward pass",
        "latency_device": "on what, with which batch size. Needed with latency_ms, unless device says it",
        "training_flops": "of the whole training, over those of training the dense network once",
        "base_model": "pretrained or random",
        "base_model_id": "one text for one set of weights: rows with the same one share their base model",
        "granularity": "filter, channel, unstructured, N:M",
        "pruning_ratio": "the fraction removed, as printed",
        "criterion": "such as l1",
        "pruning_schedule": "one-shot, iterative or progressive",
        "pretrain_epochs": "epochs of the dense network's training",
        "pretrain_schedule": "its LR schedule: 0:0.1,30:0.01 or as papers print it: 0.1, /10 at 30,60",
        "sparsify_epochs": "epochs of the sparsifying action, 0 for one-shot",
        "sparsify_schedule": "its LR schedule",
        "retrain_epochs": "epochs of retraining",
        "retrain_schedule": "its LR schedule",
        "scratch_epochs": "of a network that is trained from scratch: its epochs, and no other stage",
        "scratch_schedule": "its LR schedule",
        "optimiser": "such as sgd",
        "momentum": "",
        "weight_decay": "",
        "batch_size": "",
        "augmentation": "joined by +, such as crop+flip, or 'no' for none",
        "device": "what it ran on",
        "source": "where it is printed: paper, table, row",
    }
)  # fmt: skip


def read_csv(path: str | Path) -> tuple[Row, ...]:
    """The rows of a CSV file under its header.

    Raises FileNotFoundError for no such file, ValueError for an unknown or repeated column, a row of another length and
    a table without rows. Each names the place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None
    header = [column.strip() for column in lines[0]] if lines else []
    check_header(header, str(path))
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if any(line)]
    for number, line in rows:
        if len(line) != len(header):
            raise ValueError(
                f"{path}, line {number} has {len(line)} cells, the header {len(header)}; quote a cell that holds commas"
            )
    if not rows:
        raise ValueError(f"{path} has no rows below its header")
    return tuple({"line": str(number)} | dict(zip(header, line, strict=True)) for number, line in rows)


def check_header(header: Sequence[str], place: str) -> None:
    """Raise ValueError for a column that is unknown or there twice, and for none called 'name'."""
    for column in header:
        if column not in COLUMNS and not column.startswith(SETTING):
            more = f"; a setting of training is written '{SETTING}{column}'"
            raise ValueError(f"{place}: {unknown('column', column, COLUMNS)}{more}")
        if header.count(column) > 1:
            raise ValueError(f"{place}: column {column!r} is there twice; each stands once")
    if "name" not in header:
        raise ValueError(f"{place} has no column 'name'; it needs one, and the others are free")
