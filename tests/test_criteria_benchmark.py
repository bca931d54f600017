"""The benchmark of scoring: which ratios it quotes, and that a tiny form of it runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import criteria


def test_scoring_is_quoted_over_an_epoch_and_ours_over_the_peer_s_of_the_same_network():
    best = {
        ("epoch", "taylor", "resnet20", "256", "128"): {"train_s": 4.0, "score_s": 2.0},
        ("scores", "peer", "l1", "resnet50"): {"score_s": 2.0},
        ("scores", "ours", "l1", "coupled", "resnet50"): {"score_s": 0.5},
        ("scores", "ours", "lamp", "weights", "resnet50"): {"score_s": 1.0},
    }
    assert criteria.summary(best) == {
        "taylor: scoring / a training epoch": 0.5,
        "l1 (coupled): ours / the peer's": 0.25,
    }


@pytest.mark.slow
def test_the_tiny_form_measures_both_kinds_of_case(tmp_path):
    out = tmp_path / "criteria.json"
    command = [sys.executable, "-m", "benchmarks.criteria", "--quick", "--rounds=1", f"--out={out}"]
    subprocess.run(command, check=True)
    found = json.loads(out.read_text())
    assert list(found["ratios"]) == ["taylor: scoring / a training epoch"]
    assert all(seconds > 0 for case in found["best"].values() for seconds in case.values())
