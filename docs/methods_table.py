"""The table of criteria as a page, from the table that the package runs by."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from prune_jax.pruning.criteria.criterion import Criterion, scores_slices
from prune_jax.pruning.criteria.table import CRITERIA

HEAD = ("name", "what it scores", "granularity", "evidence, and what it costs", "source")
# What one field of evidence costs, over the examples that are looked at.
COSTS = {
    "key": "none",
    "grads": "one backward pass",
    "fisher": "one backward pass an example",
    "hessian_products": "about two backward passes a draw",
    "hessian_gradient": "about three backward passes",
    "synflow": "one backward pass on ones",
    "activations": "one forward pass",
    "example_activations": "one forward pass",
    "map_ranks": "one forward pass, an SVD of each feature map",
    "inputs": "one forward pass",
    "input_grams": "one forward pass, Gram matrices of the inputs",
}


def rows() -> list[tuple[str, ...]]:
    """One row of text for each criterion of the table."""
    return [_row(name, criterion) for name, criterion in CRITERIA.items()]


def write(folder: Path) -> None:
    """Write ``methods.md``, which a page includes."""
    folder.mkdir(exist_ok=True)
    lines = [_line(HEAD), _line("---" for _ in HEAD), *map(_line, rows())]
    (folder / "methods.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _row(name: str, criterion: Criterion) -> tuple[str, ...]:
    words = " ".join((inspect.getdoc(criterion.score) or "").split())
    first = re.split(r"(?<=[a-z)\]])[.;:] (?=[A-Z(])", words)[0].rstrip(".")
    source = re.search(r"Source: (.+?)(?:\. (?=[A-Z])|$)", words) or re.search(
        r"\(((?:arXiv|[A-Z]\w+ et al).+?)\)\.", words
    )
    needs = sorted(criterion.needs)
    evidence = ", ".join(f"`{need}`: {COSTS[need]}" for need in needs) or "weights alone"
    return (f"`{name}`", _plain(first), granularity(criterion), evidence, _plain(source[1] if source else ""))


def granularity(criterion: Criterion) -> str:
    """Which granularities a criterion serves, and whether it compensates or scores coupled slices."""
    if criterion.weights_only:
        words = "masks"
    elif criterion.unit == "weight":
        words = "all"
    else:
        words = "channels"
    more = ["compensates"] if criterion.compensate is not None else []
    more += ["coupled slices"] if scores_slices(criterion) else []
    return "; ".join([words, *more])


def _plain(words: str) -> str:
    """Text for a cell: code in single backticks, no bars."""
    return words.replace("``", "`").replace("|", "\\|").rstrip(".")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
