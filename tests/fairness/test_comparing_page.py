"""The example of docs/comparing.md runs, and says what the page says."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def test_the_example_of_the_page(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "comparing.md").read_text(), re.DOTALL)
    exec(compile(code, "docs/comparing.md", "exec"), {})
    holm, letters, group, reason = capsys.readouterr().out.splitlines()
    assert holm == "(0.02, 0.06, 0.06, 0.03)"
    assert letters == "('a', 'ab', 'b')"
    assert "S4.2" in group or group.startswith("None")
    assert reason.startswith("Group 2 is not ranked with group 1: ")
