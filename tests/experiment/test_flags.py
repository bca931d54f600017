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
