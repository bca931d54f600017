import pathlib
import re
import subprocess
import sys

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
