"""The pages of the documentation: their Python runs, their generated parts name everything."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.pruning.criteria.table import CRITERIA

DOCS = Path(__file__).parents[1] / "docs"
# What other tests run stands elsewhere: trainability.md, comparing.md, records.md.
PAGES = ("index", "faq", "which_setup")


def generator(name):
    """A file of docs/ that writes a page, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_methods_has_every_criterion_its_needs_and_their_cost():
    made = generator("methods_table")
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
    generator("methods_table").write(tmp_path)
    lines = (tmp_path / "methods.md").read_text().splitlines()
    assert len(lines) == len(CRITERIA) + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {
        len(generator("methods_table").HEAD) + 1
    }


def leaves(config, before=""):
    for key, value in config.items():
        if isinstance(value, ConfigDict) and value:
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def test_every_key_of_a_config_is_explained_with_its_default():
    documented = {
        f"{section.name}.{key.path}".removeprefix("."): key
        for section in generator("config_keys").sections()
        for key in section.keys
    }
    keys = dict(leaves(default_config()))
    assert set(documented) == set(keys)
    for name, value in keys.items():
        key = documented[name]
        assert re.match(r"\S.{8,}\.$", key.meaning), (
            f"config.{name} needs a comment above it, in full sentences"
        )
        default = eval(key.default, {})
        assert default == (value.to_dict() if isinstance(value, ConfigDict) else value), name


def test_the_page_of_keys_has_a_table_for_each_section(tmp_path):
    made = generator("config_keys")
    made.write(tmp_path)
    page = (tmp_path / "config_keys.md").read_text()
    sections = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert sections == [f"config.{section.name}".rstrip(".") for section in made.sections()]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(section.keys) for section in made.sections())
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_every_page_is_in_the_table_of_contents():
    contents = (DOCS / "index.md").read_text()
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    listed = set(re.findall(r"^([\w/]+)$", contents, re.MULTILINE))
    assert not pages - listed
    assert {path.stem for path in (DOCS / "notebooks").glob("*.ipynb")} <= {
        name.split("/")[-1] for name in listed
    }


def rewritten(text, page="page"):
    """A page's text as the site shows it."""
    app = SimpleNamespace(srcdir=DOCS, env=SimpleNamespace(doc2path=lambda name: f"{name}.md"))
    source = [text]
    generator("outside_links").rewrite(app, page, source, "https://host/repo")
    return source[0]


def test_links_out_of_the_documentation_lead_to_the_repository_and_pictures_stay():
    assert rewritten("[all\nnumbers](../README.md#three-lines), [folder](../configs), [page](faq.md)") == (
        "[all\nnumbers](https://host/repo/blob/main/README.md#three-lines), "
        "[folder](https://host/repo/tree/main/configs), [page](faq.md)"
    )
    assert rewritten("![A figure, (b)](../README.md)") == "![A figure, (b)](../README.md)"
    assert rewritten("[page](../faq.md)", "api/index") == "[page](../faq.md)"
    with pytest.raises(FileNotFoundError, match=r"page: the link to '\.\./gone\.md' leads nowhere"):
        rewritten("[gone](../gone.md)")


def test_every_picture_of_a_page_is_there_and_says_what_it_shows():
    for page in DOCS.glob("*.md"):
        for text, path in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text()):
            assert (DOCS / path).exists(), f"{page.name}: {path}"
            assert len(text.split()) > 3, f"{page.name}: {path} needs words for who can't see it"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page):
    code = "".join(re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL))
    assert code
    done = subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
