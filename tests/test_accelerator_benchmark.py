"""The benchmark for whoever has a card: its table, what it does when time is over, and its smallest form."""

import argparse
import json
import subprocess
import sys

import pytest

from benchmarks import accelerator


def arguments(**given):
    return argparse.Namespace(**{"smallest": True, "minutes": 8.0, "peak_tflops": None, "out": None} | given)


def test_a_table_row_for_each_measurement_and_each_failure(monkeypatch, tmp_path):
    step = {"step_s": 0.5, "batch": 256, "gpu": True, "flops": 98.9e12}
    found = {"device": {"kind": "NVIDIA H200", "platform": "gpu"}, "pruning": {"failed": "no memory"}}
    found["spectra"] = {"again_s": 3.0, "floor_s": 2.0, "batch": 4}
    found["sweep"] = {"seconds": 12.0, "runs": 8}
    monkeypatch.setattr(accelerator.scale, "run_child", lambda *_, **__: step)
    monkeypatch.setattr(accelerator, "measured", lambda case, left: found[case[0]])
    result = accelerator.run(arguments(smallest=False, out=tmp_path / "new" / "a.json"))
    kept = json.loads((tmp_path / "new" / "a.json").read_text())
    assert kept["device"] == "NVIDIA H200"
    assert kept["peak_tflops"] == 989
    lines = dict(kept["rows"])
    assert (
        "20.0% of the peak's FLOPs" in lines["resnet50 ours x1"]
    )  # 98.9 TFLOP in half a second of 989 a second
    assert lines["spectra of resnet50, K = 1000"] == "0.75 s an example, 1.50 times the floor"
    assert lines["pruning of resnet50"] == "failed: no memory"
    assert lines["sweep, one program"] == "12.0 s for 8 runs"
    assert accelerator.table(result).count("\n") == len(result["rows"]) + 1


def test_what_no_time_is_left_for_is_said(monkeypatch):
    monkeypatch.setattr(accelerator, "measured", lambda case, left: {"kind": "cpu", "platform": "cpu"})
    result = accelerator.run(arguments(minutes=0.0))
    assert all("left out, 0 minutes are over" in told for _, told in result["rows"])


def test_a_child_that_takes_too_long_has_failed():
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert accelerator.scale.finished(slow, timeout=0.2)["failed"].startswith(
        "took longer than the 0 seconds"
    )


@pytest.mark.slow
def test_the_smallest_form_runs_to_its_end(tmp_path):
    out = tmp_path / "smallest.json"
    command = [sys.executable, "-m", "benchmarks.accelerator", "--smallest", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert "failed" not in json.dumps(result["rows"])
    assert len(result["rows"]) == 5
    assert f"on {result['device']}" in done.stdout
