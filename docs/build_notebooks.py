"""Make the notebooks from their sources: ``python docs/build_notebooks.py [NAME ...]`` runs them and keeps the outputs.

``--text`` runs nothing: where a notebook's code is unchanged, its text is brought up to date.

A source is a MyST file in ``notebooks/source``. The notebook beside it is what Colab and the documentation show.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"
ROOT = Path(__file__).parents[1]
# Folders of this machine, and where an object lies in memory.
OWN = ((re.compile(r"/[\w./-]*/(site-packages|prune_jax)/"), r"\1/"), (re.compile(r" at 0x[0-9a-f]+"), ""))


def main(names: list[str]) -> None:
    """Build the notebooks of these names, or all."""
    make = with_old_outputs if "--text" in names else built
    names = [name for name in names if name != "--text"]
    for source in sorted((FOLDER / "source").glob("*.md")):
        if not names or source.stem in names:
            print(source.stem, flush=True)
            nbformat.write(make(source), FOLDER / f"{source.stem}.ipynb")


def with_old_outputs(source: Path) -> Any:
    """The notebook with the outputs that it has. Raises ValueError where its code has changed."""
    notebook = _unrun(source)
    old = nbformat.read(FOLDER / f"{source.stem}.ipynb", as_version=4)
    ours, theirs = ([c for c in book.cells if c.cell_type == "code"] for book in (notebook, old))
    if [cell.source for cell in ours] != [cell.source for cell in theirs]:
        raise ValueError(
            f"the code of {source.stem} has changed; run it: python docs/build_notebooks.py {source.stem}"
        )
    for cell, before in zip(ours, theirs, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    notebook.metadata = old.metadata
    return notebook


def _unrun(source: Path) -> Any:
    notebook = jupytext.read(source)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # else it is random
    return notebook


def built(source: Path) -> Any:
    """The notebook, run from top to bottom in an empty folder."""
    notebook = _unrun(source)
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if not _is_progress(output)]
        for output in cell.get("outputs", ()):
            _clean(output)
    return notebook


def _is_progress(output: Any) -> bool:
    """Lines of a progress bar, and what libraries log."""
    return output.get("name") == "stderr" or set(output.get("data", ())) == {"text/html", "text/plain"}


def _clean(output: Any) -> None:
    if "text" in output:
        output["text"] = _without(output["text"])
    for kind, text in output.get("data", {}).items():
        if kind.startswith("text/"):
            output["data"][kind] = _without(text)


def _without(text: str) -> str:
    for pattern, instead in OWN:
        text = pattern.sub(instead, text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
