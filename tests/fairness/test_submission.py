"""``compare --validate``: what is taken into a ledger, and what each refusal says."""

import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from prune_jax.fairness import Costs, RunRecord, SeedResult, Summary, cli, from_json, submission, write

PAGE = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
GOOD = from_json(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])


def call(*arguments):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(list(map(str, arguments))))


def test_the_record_of_the_page_can_be_taken(tmp_path, capsys):
    write(GOOD, tmp_path / "a.json")
    assert call(tmp_path, "--require=S1", "--validate") == 0
    assert capsys.readouterr().out == "Plain L1 @ 0.5: valid\n"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"network": None}, "states no 'network': add it"),
        ({"results": ()}, "states no result: add 'results' with its seeds"),
        ({"results": (), "summary": Summary(93.0, 0.1)}, "its summary states no 'n'"),
        ({"costs": Costs()}, "states no rate: add a speedup"),
        ({"source": None}, "states neither 'source' nor 'commit'"),
        ({"costs": Costs(None, 2e9, 1e9, speedup=3.0)}, "contradicts itself: record, Plain L1 @ 0.5"),
        ({"results": (SeedResult(0, 0.931), SeedResult(1, 0.933))}, "expected 93.2, a percentage"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(change, complaint, tmp_path, capsys):
    record = dataclasses.replace(GOOD, **change)
    (line,) = submission.faults(record)
    assert complaint in line
    write(record, tmp_path / "a.json")
    assert call(tmp_path, "--validate") == 1
    assert complaint in capsys.readouterr().err


def test_two_records_must_be_valid_and_reach_the_setup(tmp_path, capsys):
    write(GOOD, tmp_path / "a.json")
    write(dataclasses.replace(GOOD, name="Faster", costs=Costs(speedup=4.0)), tmp_path / "b.json")
    assert call(tmp_path, "--validate") == 0
    assert call(tmp_path, "--validate", "--require=S1") == 1
    assert (
        "Plain L1 @ 0.5 / Faster: S1 doesn't hold (rate (speedup) 2x against 4x)" in capsys.readouterr().err
    )
    assert call(tmp_path / "a.json") == 2
    write(RunRecord("Bare"), tmp_path / "c.json")
    assert call(tmp_path, "--validate") == 1
    assert capsys.readouterr().err.count("compare: Bare ") == 6
