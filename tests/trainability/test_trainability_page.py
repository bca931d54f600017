import pathlib
import re

import pytest

import prune_jax
from prune_jax import trainability

PAGE = (pathlib.Path(prune_jax.__file__).parents[1] / "docs" / "trainability.md").read_text()


@pytest.mark.slow
def test_the_examples_of_the_page_run_in_order_and_print_what_it_says(capsys):
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/trainability.md", "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "(4, 10)"
    assert "'layers/2': 1.0, 'layers/3': 0.06, 'layers/4': 1.0" in "\n".join(printed)
    assert "(4, 32)" in printed
    assert printed[-5].startswith("TrainabilityComparison(first=65.0, second=56.0")
    assert printed[-4:-1] == ["60", "None", "2"]
    assert printed[-1].endswith("True")  # both LR stages ended, at plateaus
    assert all(10 <= int(epochs) < 60 for epochs in re.findall(r"\d+", printed[-1]))
    assert scope["penalties"][-1] < 0.05 * scope["penalties"][0]
    assert scope["exact"].rank == 40
    assert abs(scope["trace"].value - scope["exact"].trace) < 6 * scope["trace"].error
    assert float(scope["top"].values[0]) <= float(scope["exact"].eigenvalues[0]) * 1.001


def test_every_name_of_the_page_is_offered():
    named = set(re.findall(r"trainability\.(\w+)\(", PAGE))
    named |= {
        name
        for row in re.findall(r"^\|.*?\|(.*?)\|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert len(named) > 15
    assert named <= set(trainability.__all__)
