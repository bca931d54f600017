"""Benchmarks of cases in processes of their own: whose turn it is, which number counts, how a failure ends."""

import json
import subprocess
import types

import pytest

from benchmarks import rounds


def answering(answers, monkeypatch):
    """Processes that print ``answers`` in turn, the last line as JSON; the commands are collected."""
    asked = []

    def process(command, **how):
        asked.append(command[2:])
        code, text = answers[len(asked) - 1]
        return types.SimpleNamespace(
            returncode=code, stdout=f"a line before\n{text}\n", stderr="no such peer"
        )

    monkeypatch.setattr(subprocess, "run", process)
    return asked


def test_cases_take_turns_and_the_smallest_of_each_number_counts(monkeypatch):
    results = [
        {"s": 2.0, "in": {"n": 5}},
        {"s": 1.0, "in": {"n": 7}},
        {"s": 1.5, "in": {"n": 4}},
        {"s": 3.0, "in": {"n": 9}},
    ]
    asked = answering([(0, json.dumps(each)) for each in results], monkeypatch)
    found = rounds.best("benchmarks.some", [("a",), ("b", "1")], 2)
    assert found == {("a",): {"s": 1.5, "in": {"n": 4}}, ("b", "1"): {"s": 1.0, "in": {"n": 7}}}
    child = ["benchmarks.some", "--child"]
    assert asked == [[*child, "a"], [*child, "b", "1"], [*child, "a"], [*child, "b", "1"]]


def test_what_was_not_measured_stays_none():
    assert rounds.best_of([{"macs": None}, {"macs": None}]) == {"macs": None}


def test_a_process_that_fails_ends_the_run_with_its_case_and_its_message(monkeypatch):
    answering([(1, "")], monkeypatch)
    with pytest.raises(SystemExit, match="peer resnet50 failed:\nno such peer"):
        rounds.best("benchmarks.some", [("peer", "resnet50")], 1)
