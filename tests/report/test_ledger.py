"""The ledger's files: what is gathered, what is refused, who is ranked with whom."""

import argparse
import json
import random

import pytest
import random_records

from prune_jax import fairness
from prune_jax.fairness import facts, setups
from prune_jax.report.ledger import command, ranks, site


def call(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(map(str, arguments))))


@pytest.fixture(scope="module")
def records():
    return random_records.records(random.Random(5), 30)


@pytest.fixture
def runs(tmp_path, records):
    for number, record in enumerate(records[:4]):
        fairness.write(record, tmp_path / "runs" / "one" / "records" / f"{number}.json")
    return tmp_path / "runs"


def data_of(folder):
    return json.loads((folder / site.DATA).read_text().removeprefix(site.BEGINS).rstrip(";\n"))


def test_every_field_of_a_setup_has_a_rule():
    assert set(facts.RULES) == set(setups._CHECKS)


def test_rows_and_facts_are_those_of_the_records(runs, tmp_path, records, capsys):
    assert call(runs, "published:pruningbench", f"--out={tmp_path / 'site'}") == 0
    data = data_of(tmp_path / "site")
    assert len(data["rows"]) == len(data["facts"]) == 4 + 339
    assert capsys.readouterr().out.strip().endswith("343 records in " + str(tmp_path / "site" / "index.html"))
    for record, row, numbers in zip(records[:4], data["rows"], data["facts"], strict=False):
        assert row[1] == record.name
        assert (
            json.loads((tmp_path / "site" / "records" / f"{row[0]}.json").read_text())["name"] == record.name
        )
        told = {
            name: pool[number] for (name, pool), number in zip(data["pools"].items(), numbers, strict=True)
        }
        assert told == json.loads(json.dumps(facts.facts(record)))


def test_one_bad_record_hides_no_other(runs, tmp_path, capsys):
    (runs / "one" / "records" / "9.json").write_text("{")
    (runs / "one" / "records" / "8.json").write_text((runs / "one" / "records" / "1.json").read_text())
    assert call(runs, f"--out={tmp_path / 'site'}") == 1
    data = data_of(tmp_path / "site")
    assert len(data["rows"]) == 4
    assert "left out: " in data["problems"][0]
    assert "9.json is no JSON" in data["problems"][0]
    assert data["problems"][1].startswith("listed once: 'run 1' of ")
    assert capsys.readouterr().err.count("ledger: ") == 2


def test_records_of_result_folders_are_read_beside_files_of_other_kinds(runs, tmp_path, records, capsys):
    """A loose record counts, what can't be read is named, and what states no schema is somebody else's."""
    fairness.write(records[4], runs / "loose.json")
    (runs / "benchmark.json").write_text('{"seconds": 1.0}')
    (runs / "list.json").write_text("[1]")
    assert call(runs, f"--out={tmp_path / 'site'}") == 0
    assert {row[1] for row in data_of(tmp_path / "site")["rows"]} == {record.name for record in records[:5]}
    (runs / "broken.json").write_text("{")
    assert call(runs, f"--out={tmp_path / 'site'}") == 1
    assert "broken.json is no JSON" in capsys.readouterr().err


def test_a_ledger_takes_the_place_of_an_older_one_alone(runs, tmp_path, capsys):
    out = tmp_path / "site"
    call(runs, f"--out={out}")
    before = {path.name for path in (out / "records").iterdir()}
    (runs / "one" / "records" / "3.json").unlink()
    assert call(runs, f"--out={out}") == 0
    assert len({path.name for path in (out / "records").iterdir()}) == len(before) - 1
    assert call(runs, f"--out={runs / 'one'}") == 2
    assert "holds something else than a ledger; choose a new folder" in capsys.readouterr().err
    assert not (runs / "one" / "index.html").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "ledger: no record or folder at nowhere"),
        (["published:pruningbranch"], "did you mean 'pruningbench'?"),
        (["{empty}"], "holds no records: none in"),
        (["{bad}"], "no record in "),
        (["paper:table1", "--tolerance=-1"], "--tolerance=-1 must be at least 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, complaint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("[]")
    places = {"empty": tmp_path / "empty", "bad": tmp_path / "bad.json"}
    arguments = [text.format(**places) for text in arguments]
    assert call(*arguments, f"--out={tmp_path / 'site'}") == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_standings_are_those_of_a_ranking_of_all_records(records):
    """The parts lose nothing: scratch, pruning at initialisation and base models that are unstated are among them."""
    others = [*records, *random_records.other_actions()]
    groups = [group for group in fairness.rank(others).groups if len(group.records) > 1]
    wanted = {}
    for group in groups:
        for place, (record, letters) in enumerate(zip(group.records, group.letters, strict=True), start=1):
            wanted[others.index(record)] = (group.setup, place, len(group.records), letters)
    found = ranks.standings(others, 0.02)
    assert {number: standing[1:] for number, standing in found.items()} == wanted
    assert len({standing.group for standing in found.values()}) == len(groups) > 1


def test_the_table_library_becomes_a_plain_script():
    text = site._library()["datatables.js"]
    assert "window.DataTable = " in text
    assert "export{" not in text
    with pytest.raises(ValueError, match=r"no default export; install itables"):
        site.as_script("var a=1;")
