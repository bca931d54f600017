"""What pages quote beside committed results: of plateau runs, of the printed tables, of defaults, of packaged data."""

import pathlib
import re
import statistics
import sys

import pytest

from prune_jax import data, fairness
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.storage import leases
from prune_jax.fairness import published
from prune_jax.report import plateau, reading

ROOT = pathlib.Path(__file__).parents[2]


def text_of(name):
    """A file's words, without line breaks."""
    return " ".join((ROOT / name).read_text().split())


@pytest.fixture(scope="module")
def plateaus():
    """(ratio, initial LR, whether a rule ended its stages) -> record."""
    records = fairness.read_folder(ROOT / "results/plateau_mlp7/records")
    return {(str(r.axes.ratio), reading.initial_lr(r), reading.last_stage(r).by_rule): r for r in records}


def test_which_stages_did_not_stand_still(plateaus):
    record = plateaus["0.9", 1e-3, True]
    longest = int(re.search(r"of at most 0:0\.001,(\d+):", str(reading.last_stage(record).schedule))[1])
    first = [schedule.first_stage for schedule in reading.schedules(record)]
    assert first.count(longest) == 2
    assert len(first) == 3
    assert longest == 300
    assert [bool(stages) for stages in plateau.capped(record)].count(True) == 1
    others = [r for place, r in plateaus.items() if place != ("0.9", 1e-3, True) and place[2]]
    assert not any(stages for r in others for stages in plateau.capped(r))
    told = "of two of three seeds lasted the 300 epochs that it may, one of them without a plateau"
    assert told in text_of("docs/experiments.md")
    assert told in text_of("docs/paper.md")


def test_most_extended_runs_end_lower_at_the_smaller_ratios(plateaus):
    pairs = [
        [statistics.mean(plateaus[ratio, lr, rule].accuracies) for rule in (True, False)]
        for ratio, lr, by_rule in plateaus
        if by_rule and ratio != "0.9"
    ]
    assert len(pairs) == 6
    assert sum(extended < fixed for extended, fixed in pairs) > 3
    for page in ("docs/experiments.md", "docs/paper.md"):
        assert "At 0.5 and 0.7 most extended runs end lower." in text_of(page)


def test_the_same_overall_schedule_is_behind_scratch_from_0_7_on():
    records = fairness.read_folder(ROOT / "results/mystery2_convnet/records")
    scratch = {str(r.axes.ratio): r for r in records if r.method == "scratch"}
    behind = {}
    for record in records:
        if record.config.get("regime") == "same overall schedule":
            test = fairness.welch(record.accuracies, scratch[str(record.axes.ratio)].accuracies)
            behind.setdefault(str(record.axes.ratio), []).append(test.difference < 0)
    assert {ratio for ratio, found in behind.items() if all(found)} >= {"0.7", "0.9"}
    assert "From ratio 0.7 on, the same overall schedule puts it behind" in text_of("docs/paper.md")


def test_the_larger_lr_is_ahead_in_most_printed_pairs_of_tables_6_and_7():
    ahead, behind = [], []
    for table in ("table6", "table7"):
        printed = {
            (row["schedule"], row["pruning_ratio_printed"], row["initial_lr"]): row
            for row in published.rows(table)
            if row["method"] != "Scratch"
        }
        for schedule, ratio, lr in printed:
            if lr == 0.01:
                large, small = (printed[schedule, ratio, each] for each in (0.01, 0.001))
                wins = large["acc_mean"] > small["acc_mean"]
                (ahead if wins else behind).append((large["network"], ratio))
    assert (len(ahead), len(ahead) + len(behind)) == (14, 16)
    assert set(behind) == {("resnet56", 0.9)}
    told = "On the printed numbers it does in 14 of 16 pairs, all but ResNet56's at ratio 0.9"
    assert told in text_of("docs/paper.md")


def test_the_seconds_that_the_cluster_page_names_are_the_defaults():
    page, config = text_of("docs/cluster.md"), default_config()
    assert f"renews every {leases.LEASE_SECONDS / 3:.0f} seconds" in page
    assert f"not been renewed for {leases.LEASE_SECONDS:.0f} seconds" in page
    assert f"(`config.checkpoint_seconds`, {config.checkpoint_seconds:.0f} by default)" in page
    for name in ("initialization_timeout", "heartbeat_timeout"):
        assert f"`config.distributed.{name}` ({config.distributed[name]} s)" in page


def test_the_sizes_of_packaged_data():
    page = text_of("docs/data.md")
    digits = data.open_dataset("digits", split_seed=0)
    assert f"{digits.train_size:,} train, {digits.test_size} test" in page
    images = data.open_dataset("mnist5k", split_seed=0)
    assert f"{images.train_size:,} train, {images.test_size:,} test" in page
    told = re.search(r"split by file: ([\d.]+) MB train, ([\d.]+) MB test with Python (3\.\d+)", page)
    if tuple(map(int, told[3].split("."))) != sys.version_info[:2]:
        pytest.skip(f"the page says it of Python {told[3]}, whose standard library is not here")
    text = data.open_dataset("stdlib_text", window=64)
    assert [f"{size * 64 / 1e6:.1f}" for size in (text.train_size, text.test_size)] == [told[1], told[2]]


def test_the_length_of_the_example_of_own_parts():
    lines = (ROOT / "configs/your_parts.py").read_text().splitlines()
    assert f"holds these four in {len(lines)} lines" in text_of("docs/configuration.md")
