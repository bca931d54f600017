"""The notebooks: what is built is what the sources say, and each source runs from top to bottom."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "notebooks"
SOURCES = sorted((FOLDER / "source").glob("*.md"))
CELL = re.compile(r"```\{code-cell\} ipython3\n(.*?)\n?```", re.DOTALL)


def code_of(source):
    return CELL.findall(source.read_text())


def built(source):
    return json.loads((FOLDER / f"{source.stem}.ipynb").read_text())


def test_there_are_six_of_them():
    assert len(SOURCES) == 6
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_built_notebook_has_the_code_of_its_source(source):
    cells = [cell for cell in built(source)["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in cells] == code_of(source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_built_notebook_has_outputs_and_names_no_folder_of_its_maker(source):
    text = json.dumps(built(source))
    assert '"outputs": [{' in text
    assert not re.search(r"/(tmp|home|root|work|Users)/\w", text)
    assert '"output_type": "error"' not in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_badge_and_the_installation(source):
    text = source.read_text()
    assert f"/blob/main/docs/notebooks/{source.stem}.ipynb)" in text
    first = code_of(source)[0]
    assert first.startswith("REPOSITORY = ")
    assert "git+{REPOSITORY}" in first


def test_one_command_sets_the_address_of_the_repository_everywhere(tmp_path):
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_*"))
    command = [sys.executable, str(docs / "set_address.py")]
    for owner in ("somebody", "somebody-else"):  # it can be changed again
        address = f"https://github.com/{owner}/prune_jax"
        assert not subprocess.run([*command, address], capture_output=True).returncode
        for path in [*docs.glob("notebooks/*.ipynb"), *docs.glob("notebooks/source/*.md")]:
            text = path.read_text()
            assert len(re.findall(rf"github(?:\.com)?/{owner}/prune_jax", text)) == 2
            assert "OWNER" not in text
            assert address in text
        assert f'"{address}"' in (docs / "conf.py").read_text()
    refused = subprocess.run([*command, "https://example.org/a/b"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "it has the form https://github.com/NAME/REPOSITORY" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(source, tmp_path):
    code = "\n".join(code_of(source))
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
