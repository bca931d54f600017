"""The loop of docs/sparse_training.md runs, and prints what the page says; its table names every rule."""

import contextlib
import io
import pathlib
import re

import jax

from prune_jax.pruning.mask_rules.table import RULES

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "sparse_training.md").read_text()


def test_the_loop_prints_what_the_page_says():
    code, said = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL).groups()
    with contextlib.redirect_stdout(io.StringIO()) as printed, jax.numpy_rank_promotion("allow"):
        exec(compile(code, "docs/sparse_training.md", "exec"), {})
    assert printed.getvalue() == said


def test_the_table_names_every_rule():
    assert re.findall(r"^\| `(\w+)` \| [^|]*arXiv", PAGE, re.MULTILINE) == [
        "static",
        *(name for name in RULES if name != "static"),
    ]
