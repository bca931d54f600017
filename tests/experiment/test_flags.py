import pytest

from prune_jax.experiment.config import flags


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["--config=configs/a.py:quick"], ["--config=configs/a.py", "--config.quick"]),
        (
            ["--config", "configs/a.py:quick", "--dry_run"],
            ["--config", "configs/a.py", "--config.quick", "--dry_run"],
        ),
        (
            ["--config=configs/a.py", "--sweep", "--workdir=w"],
            ["--config=configs/a.py", "--sweep=all", "--workdir=w"],
        ),
        (["--sweep=2/3", "--config=a.py:other"], ["--sweep=2/3", "--config=a.py:other"]),
    ],
)
def test_short_spellings_are_spelled_out_where_ml_collections_reads_them_too(given, read, monkeypatch):
    """In the list itself: ml_collections looks for overrides in sys.argv, which absl hands to the parser."""
    monkeypatch.setattr(flags.flags, "FLAGS", lambda argv: list(argv))
    argv = ["run.py", *given]
    assert flags.parse_flags(argv) == ["run.py", *read]
    assert argv == ["run.py", *read]


@pytest.mark.parametrize("given", [["--config={}:quick"], ["--config", "{}", "--dry_run"]])
def test_a_config_file_that_is_not_there_is_one_line_and_one_that_fails_keeps_its_traceback(
    given, tmp_path, monkeypatch, capsys
):
    def reads(argv):
        raise OSError("Failed loading config file")  # as ml_collections says of either

    monkeypatch.setattr(flags.flags, "FLAGS", reads)
    file = tmp_path / "mine.py"
    argv = ["run.py", *(text.format(file) for text in given)]
    with pytest.raises(SystemExit, match="1"):
        flags.parse_flags(list(argv))
    assert capsys.readouterr().err.startswith(f"error: --config={file}: there is no such file; name one")
    file.touch()
    with pytest.raises(OSError, match="Failed loading"):
        flags.parse_flags(argv)
