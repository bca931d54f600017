import subprocess
import sys
import time

import pytest

from prune_jax.experiment.storage import leases

ELSEWHERE = "filelock/2\npid=7\nhost=elsewhere\nmode=lease\ntoken=abc\nduration={}\n"


def of_another_host(folder, name, seconds):
    """What a process on another host leaves: nothing here can tell whether it is alive, but for renewals."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.lock").write_text(ELSEWHERE.format(float(seconds)))


def test_a_stage_is_held_once_and_free_again_afterwards(tmp_path):
    mine, theirs = leases.open_locks(tmp_path), leases.open_locks(tmp_path)
    with leases.held(mine, ["a"]):
        leases.check(mine, ["a"])
        with (
            pytest.raises(leases.BusyError, match=r"^a is held by process \d+ on "),
            leases.held(theirs, ["a"]),
        ):
            pytest.fail("held twice")
    with leases.held(theirs, ["a"]):
        pass
    assert not list(mine.folder.iterdir())


def test_all_or_none(tmp_path):
    mine, theirs = leases.open_locks(tmp_path), leases.open_locks(tmp_path)
    with leases.held(mine, ["b"]):
        with pytest.raises(leases.BusyError, match="b is held"), leases.held(theirs, ["c", "a", "b"]):
            pytest.fail("b is taken")
        with leases.held(theirs, ["a", "c", "a"]):  # neither was kept
            pass


def test_what_raises_inside_lets_go(tmp_path):
    mine = leases.open_locks(tmp_path)
    with pytest.raises(ZeroDivisionError), leases.held(mine, ["a", "b"]):
        raise ZeroDivisionError
    with leases.held(leases.open_locks(tmp_path), ["a", "b"]):
        pass


def test_a_process_that_died_on_this_host_is_taken_over_at_once(tmp_path):
    mine = leases.open_locks(tmp_path)
    mine.folder.mkdir()
    script = (
        "import filelock, os, sys; lease = filelock.SoftFileLease(sys.argv[1], lease_duration=120.0);"
        "lease.acquire(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", script, str(mine.folder / "a.lock")], check=False)
    assert (mine.folder / "a.lock").exists()
    with leases.held(mine, ["a"]):
        leases.check(mine, ["a"])


def test_a_process_of_another_host_is_taken_over_when_it_renews_no_more(tmp_path):
    mine = leases.open_locks(tmp_path, seconds=0.05)
    of_another_host(mine.folder, "a", 0.05)
    with (
        pytest.raises(leases.BusyError, match="a is held by process 7 on elsewhere"),
        leases.held(mine, ["a"]),
    ):
        pytest.fail("watched for no time yet")
    for _ in range(200):
        try:
            with leases.held(mine, ["a"]):
                return
        except leases.BusyError:
            time.sleep(0.01)
    pytest.fail("never taken over")


def test_who_was_taken_over_is_told(tmp_path):
    mine = leases.open_locks(tmp_path)
    with leases.held(mine, ["a", "b"]):
        (mine.folder / "b.lock").unlink()
        of_another_host(mine.folder, "b", 120)
        leases.check(mine, ["a"])
        with pytest.raises(
            leases.BusyError, match="b was not renewed for 120 s and is now held by process 7"
        ):
            leases.check(mine, ["a", "b"])
    assert (mine.folder / "b.lock").read_text() == ELSEWHERE.format(120.0)  # theirs to let go


def test_a_file_that_its_holder_died_over_before_naming_itself_is_taken_over(tmp_path):
    mine = leases.open_locks(tmp_path, seconds=0.3)
    mine.folder.mkdir()
    (mine.folder / "a.lock").touch()
    with pytest.raises(leases.BusyError, match="a is held by another process"), leases.held(mine, ["a"]):
        pytest.fail("its holder may be about to name itself")
    for _ in range(300):
        try:
            with leases.held(mine, ["a"]):
                leases.check(mine, ["a"])
            break
        except leases.BusyError:
            time.sleep(0.1)
    else:
        pytest.fail("held for ever")
    assert not list(mine.folder.iterdir())
