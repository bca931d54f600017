"""The pages of the documentation: their Python runs, their generated parts name everything."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prune_jax.pruning.criteria.table import CRITERIA

DOCS = Path(__file__).parents[1] / "docs"
# What other tests run stands elsewhere: trainability.md, comparing.md, records.md.
PAGES = ("index", "faq", "which_setup")


def table():
    spec = importlib.util.spec_from_file_location("methods_table", DOCS / "methods_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_methods_has_every_criterion_its_needs_and_their_cost():
    made = table()
    rows = {row[0].strip("`"): row for row in made.rows()}
    assert list(rows) == list(CRITERIA)
    for name, criterion in CRITERIA.items():
        _, scores, granularity, evidence, _ = rows[name]
        assert scores
        assert ("masks" in granularity) == criterion.weights_only
        assert ("compensates" in granularity) == (criterion.compensate is not None)
        assert all(f"`{need}`: {made.COSTS[need]}" in evidence for need in criterion.needs)
    assert "1810.02340" in rows["snip"][-1]


def test_the_table_is_written_as_one_line_a_row(tmp_path):
    table().write(tmp_path)
    lines = (tmp_path / "methods.md").read_text().splitlines()
    assert len(lines) == len(CRITERIA) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table().HEAD) + 1}


def test_every_page_is_in_the_table_of_contents():
    contents = (DOCS / "index.md").read_text()
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    listed = set(re.findall(r"^([\w/]+)$", contents, re.MULTILINE))
    assert not pages - listed
    assert {path.stem for path in (DOCS / "notebooks").glob("*.ipynb")} <= {
        name.split("/")[-1] for name in listed
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page):
    code = "".join(re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL))
    assert code
    done = subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
