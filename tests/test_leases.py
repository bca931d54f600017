"""Empty lease files: watched by this process's clock, and marked when they stay so."""

import pytest

from prune_jax import leases


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    return now


def test_one_that_stays_empty_is_marked(tmp_path, clock):
    path = tmp_path / "a.lock"
    path.touch()
    first = leases.watch_empty(path, None, 60.0)
    assert first.since == 100.0
    clock[0] = 159.0
    assert leases.watch_empty(path, first, 60.0) == first
    assert path.read_text() == ""
    clock[0] = 160.0
    assert leases.watch_empty(path, first, 60.0) is None
    assert path.read_text() == "abandoned\n"
    assert leases.watch_empty(path, first, 60.0) is None  # and only once
    assert path.read_text() == "abandoned\n"


def test_another_file_in_its_place_is_watched_anew(tmp_path, clock):
    path = tmp_path / "a.lock"
    path.touch()
    first = leases.watch_empty(path, None, 60.0)
    (tmp_path / "b.lock").touch()
    (tmp_path / "b.lock").rename(path)
    clock[0] = 200.0
    second = leases.watch_empty(path, first, 60.0)
    assert second.since == 200.0
    assert path.read_text() == ""


def test_a_holder_that_named_itself_is_left_alone(tmp_path, clock):
    path = tmp_path / "a.lock"
    path.write_text("filelock/2")
    assert leases.watch_empty(path, leases.Sight(1, 1, 0.0), 60.0) is None
    assert path.read_text() == "filelock/2"
    assert leases.watch_empty(tmp_path / "none.lock", None, 60.0) is None
