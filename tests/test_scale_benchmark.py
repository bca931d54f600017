"""The benchmark of training steps, with measurements made up: what it keeps, and when."""

import json
import subprocess
import sys
import types

import pytest

from benchmarks import scale


def test_a_child_that_is_killed_without_a_word_is_a_case_that_failed(monkeypatch):
    ended = subprocess.CompletedProcess([], -9, stdout="", stderr="")
    monkeypatch.setattr(scale.subprocess, "run", lambda *_, **__: ended)
    arguments = types.SimpleNamespace(precision="float32", steps=1)
    found = scale.run_child(("resnet56", "ours", 1), arguments)
    assert found == {"failed": "exit code -9, and no word why"}


def test_what_is_measured_is_kept_when_a_later_case_does_not_end(monkeypatch, tmp_path):
    out, seconds = tmp_path / "out.json", iter((0.2, None, 0.5, 0.1))

    def child(case, arguments, parts=1):
        taken = next(seconds, 0)
        if taken == 0:
            raise KeyboardInterrupt
        about = {"batch": 8, "gpu": False, "flops": 1.0}
        return {"failed": "no memory"} if taken is None else {"step_s": taken, **about}

    monkeypatch.setattr(scale, "run_child", child)
    monkeypatch.setattr(scale, "version", lambda name: "1")  # PyTorch may not be installed
    monkeypatch.setattr(sys, "argv", ["scale", "--only=masked 1", "--rounds=3", f"--out={out}"])
    with pytest.raises(KeyboardInterrupt):
        scale.main()
    kept = json.loads(out.read_text())["best"]
    assert {case: found["step_s"] for case, found in kept.items()} == {
        "resnet34 masked 1": 0.2,
        "resnet50 masked 1": 0.1,  # its first round failed
    }
