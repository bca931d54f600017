"""Several processes on one workdir: who waits, who goes on, what the report holds."""

import io
import threading

import pytest
import rich.console

from prune_jax import fairness
from prune_jax.experiment.cluster import turns
from prune_jax.experiment.progress import Progress
from prune_jax.experiment.storage import folder as storage_folder
from prune_jax.experiment.storage import leases
from prune_jax.experiment.storage.reports import Board


@pytest.fixture
def told():
    return io.StringIO()


@pytest.fixture
def progress(told):
    return Progress(3, console=rich.console.Console(file=told, width=200))


def test_a_run_that_is_held_up_comes_last(monkeypatch, progress):
    monkeypatch.setattr(turns.time, "sleep", lambda seconds: pytest.fail("there was something to do"))
    tried, busy = [], {"a"}

    def attempt(arm):
        tried.append(arm)
        if arm in busy:
            busy.remove(arm)
            raise leases.BusyError(arm)

    turns.take_turns("abc", attempt, progress)
    assert tried == ["a", "b", "c", "a"]


def test_with_nothing_else_to_do_it_waits_ever_longer_and_says_so_once(monkeypatch, progress, told):
    naps, left = [], [6]
    monkeypatch.setattr(turns.time, "sleep", naps.append)

    def attempt(arm):
        left[0] -= 1
        if left[0] > 0:
            raise leases.BusyError("stage 1 is held by process 7 on elsewhere")

    turns.take_turns("a", attempt, progress)
    assert len(naps) == 5
    assert naps == sorted(naps)
    assert told.getvalue().splitlines() == ["waiting with 1 runs: stage 1 is held by process 7 on elsewhere"]


def board_of(root, names, written):
    def write(folder, records, layout, runs, draw):
        written.append(([record.name for record in records], runs, draw))
        return folder / "report.md"

    return Board(storage_folder.open_workdir(root, "test"), names, {}, write)


def test_a_report_holds_every_record_present_in_the_sweeps_order(tmp_path):
    written = []
    board = board_of(tmp_path / "w", ["c", "a", "b"], written)
    other = board_of(tmp_path / "w", ["c", "a", "b"], [])
    for name in ("a", "c"):
        fairness.write(fairness.RunRecord(name), other.path(name))
    board.report(draw=False)
    fairness.write(fairness.RunRecord("a, again"), other.path("a"))
    fairness.write(fairness.RunRecord("of another sweep"), other.path("z"))
    assert board.report(draw=True) == tmp_path / "w" / "report.md"
    assert written == [(["c", "a"], 3, False), (["c", "a, again"], 3, True)]


def test_a_report_on_the_way_gives_way_and_the_last_one_waits(tmp_path, monkeypatch):
    written = []
    board = board_of(tmp_path / "w", ["a"], written)
    held = leases.held(leases.open_locks(tmp_path / "w"), ["report"])
    held.__enter__()
    assert board.report(draw=False) == tmp_path / "w" / "report.md"
    assert not written
    monkeypatch.setattr(
        "prune_jax.experiment.storage.reports.time.sleep", lambda s: held.__exit__(None, None, None)
    )
    board.report(draw=True)
    assert written == [([], 1, True)]


def test_of_many_claims_at_once_one_experiment_wins(tmp_path):
    told = []

    def claim(experiment):
        try:
            storage_folder.claim(tmp_path / "w", experiment)
        except ValueError as error:
            told.append(str(error))

    threads = [threading.Thread(target=claim, args=(name,)) for name in "abababab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert all("holds experiment" in message for message in told)
    assert [file.name for file in (tmp_path / "w").iterdir()] == ["experiment.json"]
