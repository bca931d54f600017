import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.experiment.cluster import shards


@settings(derandomize=True, max_examples=30)
@given(st.integers(0, 50), st.integers(1, 60))
def test_every_run_is_in_exactly_one_shard(runs, count):
    parts = [shards.part(range(runs), shards.parse(f"{i}/{count}")) for i in range(1, count + 1)]
    assert sorted(run for part in parts for run in part) == list(range(runs))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_shards_count_from_one():
    assert shards.part("abcdefg", shards.parse("2/3")) == ["b", "e"]
    assert shards.part("abc", shards.parse("all")) == ["a", "b", "c"]
    assert str(shards.parse("3/16")) == "3/16"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/16", r"--sweep=0/16: shards are counted from 1, so it is --sweep=1/16 to --sweep=16/16"),
        ("17/16", r"--sweep=17/16: .* \(with Slurm, --array=1-16\)"),
        ("-1/4", "counted from 1"),
        ("1/0", "at least one shard"),
        ("x", "--sweep=x: write --sweep for all runs, or --sweep=3/16"),
        ("3", "third of 16 shards"),
        ("1/2/3", "third of 16 shards"),
    ],
)
def test_what_is_no_shard_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        shards.parse(text)
