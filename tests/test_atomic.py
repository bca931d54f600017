"""Files written whole or not at all, whoever reads, writes or dies at the same time."""

import os
import stat
import threading

import pytest

from prune_jax import atomic


def test_text_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("one\n", "zwei ± ü\n"):
        atomic.write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk"), atomic.writing(path) as file:  # noqa: PT012
        file.write(b"half of the new")
        raise OSError("the disk is full")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_sees_a_part_and_the_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic.writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_others_may_read_it_as_the_umask_says(tmp_path):
    mask = os.umask(0o022)
    try:
        atomic.write_text(tmp_path / "a", "a")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_of_many_that_write_once_one_wins(tmp_path):
    path, texts = tmp_path / "a", [f"text {i}" * 1000 for i in range(8)]
    threads = [threading.Thread(target=atomic.write_once, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = path.read_text()
    assert first in texts
    atomic.write_once(path, "too late")
    assert path.read_text() == first
    assert list(tmp_path.iterdir()) == [path]


def test_write_once_needs_no_hard_links(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("this file system has none")

    monkeypatch.setattr(os, "link", refuse)
    atomic.write_once(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
