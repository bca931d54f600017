import importlib.util
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXPERIMENTS = (ROOT / "docs" / "experiments.md").read_text()


def test_the_python_of_the_readme_runs():
    code = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))  # the blocks follow one another
    assert "find_groups" in code
    assert "spectrum" in code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1, 10) 1664 832" in done.stdout  # 16*64 + 64*10 multiply-accumulates, half of them after pruning
    mean, error, lost = re.search(r"mean JSV (\S+) ± (\S+) unresolved (\d+)", done.stdout).groups()
    assert 0 < float(error) < float(mean)
    assert lost == "0"


def test_every_file_and_config_that_the_readme_names_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    configs = [f"configs/{name}" for name in re.findall(r"`(\w+\.py)`", EXPERIMENTS)]
    assert links
    assert configs
    missing = [name for name in (*links, *configs) if not (ROOT / name).exists()]
    assert not missing


def test_the_figure_of_the_readme_shows_every_arm_of_the_committed_records(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("draw_figures", ROOT / "docs" / "draw_figures.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert f"](docs/figures/{made.first_mystery.__name__}.png)" in README
    drawn = {}
    monkeypatch.setattr(made.figures, "save", lambda figure, path: drawn.update({path: figure}))
    made.first_mystery(tmp_path / "figure.png")
    (figure,) = drawn.values()
    assert [axes.get_title() for axes in figure.axes] == list(made.ARMS.values())
    records = [r for r in made.fairness.read_folder(made.MYSTERY) if r.axes.ratio == made.RATIO]
    assert {record.method for record in records} == set(made.ARMS)
    large = [r for r in records if r.method == "l1" and "0:0.01" in r.stages[-1].schedule]
    longest = max(large, key=lambda record: record.stages[-1].epochs)
    line = figure.axes[0].containers[0].lines[0]
    assert line.get_ydata()[-1] == pytest.approx(statistics.mean(longest.accuracies))
