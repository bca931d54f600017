"""docs/language_models.md: its code runs, from a checkpoint on disk to a pruned one on disk."""

import json
import pathlib
import re
import statistics

import numpy as np
import pytest
from flax import nnx

from prune_jax import fairness, models
from prune_jax.fairness.significance import holm
from prune_jax.models.decoder import Decoder

PAGE = (pathlib.Path(__file__).parents[1] / "docs" / "language_models.md").read_text()

ARMS = (("scratch as ", ""), ("", ", SX-A"), ("", ", SX-B"))  # what stands around a run's name
SHOWN = {"heads": "heads", "inner": "inner channels", "residual": "residual channels", "depth": "blocks"}


@pytest.mark.slow
def test_the_code_of_the_page_goes_from_a_checkpoint_to_a_pruned_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden": 16, "depth": 3, "heads": 4, "kv_heads": 2, "head_dim": 4, "mlp": 32}
    net = Decoder(num_classes=19, input_shape=(8,), rngs=nnx.Rngs(0), tied=True, **sizes)
    models.save_checkpoint("llama", net)
    np.save("calibration.npy", np.random.default_rng(0).integers(0, 19, (2, 8)).astype(np.int32))
    space = {}
    exec("".join(re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)), space)
    assert "(2, 8, 19)" in capsys.readouterr().out
    config = json.loads(pathlib.Path("small/config.json").read_text())
    kept = (
        "num_key_value_heads",
        "num_attention_heads",
        "intermediate_size",
        "num_hidden_layers",
        "hidden_size",
    )
    assert [config[key] for key in kept] == [1, 2, 24, 2, 16]
    assert space["scores"].shape == space["losses"].shape == (3,)
    rows = np.asarray(space["mask"]["blocks"][0]["mlp"]["down"]["kernel"]).T.reshape(-1, 4)
    assert (rows.sum(1) == 2).all()
    with pytest.raises(FileExistsError):
        models.save_checkpoint("small", space["small"])


def test_every_config_that_the_page_names_is_there():
    for name in re.findall(r"`(configs/\w+\.py)`", PAGE):
        assert (pathlib.Path(__file__).parents[1] / name).exists()


def row_of(removed, ratio, scratch, tokens, flops):
    """A line of the page's table: bits per byte of three runs, and Welch's p of either pruned one to scratch."""

    def cell(record):
        return f"{statistics.mean(record.accuracies):.3f} ± {statistics.stdev(record.accuracies):.3f}"

    ps = [fairness.welch(run.accuracies, scratch.accuracies).p for run in (tokens, flops)]
    cells = (removed, ratio, f"{scratch.costs.speedup:.2f}", cell(scratch), cell(tokens), f"{ps[0]:.3f}")
    return f"| {' | '.join((*cells, cell(flops), f'{ps[1]:.3f}'))} |"


def pruned_or_scratch():
    folder = pathlib.Path(__file__).parents[1] / "results/lm_pruning_or_scratch/records"
    return {record.name: record for record in fairness.read_folder(folder)}


def shown(ratio, name, line):
    """The lines of the page that begin with what is removed and the ratio, of which ``line`` is one."""
    rows = [row for row in PAGE.splitlines() if row.startswith(f"| {SHOWN[name]} | {ratio} |")]
    assert line in rows, (line, rows)


@pytest.mark.parametrize("ratio", ["0.25", "0.5"])
@pytest.mark.parametrize("name", SHOWN)
def test_pruning_beside_scratch_is_what_the_records_say(ratio, name):
    runs = pruned_or_scratch()
    three = [runs[f"{before}{name} {ratio}{after}"] for before, after in ARMS]
    shown(ratio, name, row_of(SHOWN[name], ratio, *three))
    kept = [seed.epochs[0].mean_jsv / seed.base_mean_jsv for run in three[1:] for seed in run.results]
    shown(ratio, name, f"| {SHOWN[name]} | {ratio} | {min(kept):.2f} to {max(kept):.2f} |")


def test_what_the_page_says_of_all_comparisons_is_what_the_records_say():
    def seeds(run, best):
        return [seed.best_accuracy if best else seed.last_accuracy for seed in run.results]

    def lost(runs):
        gaps = [seed.last_accuracy - seed.best_accuracy for run in runs for seed in run.results]
        return statistics.mean(gaps)

    runs = pruned_or_scratch()
    pairs = [(run, runs[f"scratch as {name.split(',')[0]}"]) for name, run in runs.items() if "SX-" in name]
    last, best = (
        [fairness.welch(*(seeds(run, of) for run in pair)).p for pair in pairs] for of in (False, True)
    )
    ahead = [
        statistics.mean(pruned.accuracies) < statistics.mean(scratch.accuracies) for pruned, scratch in pairs
    ]
    text = " ".join(PAGE.split())
    assert f"lower than scratch's in all {sum(ahead)} comparisons" in text
    assert len(runs) == 24
    assert all(ahead)
    corrected = sum(p < 0.05 for p in holm(last))
    assert f"In {sum(p < 0.05 for p in last)} of them p is below 0.05" in text
    assert f"correction for {len(last)} comparisons leaves {corrected}" in text
    assert f"At the best epoch {sum(p < 0.05 for p in best)} of the {len(best)} comparisons" in text
    assert (
        f"Scratch is {lost([run for name, run in runs.items() if 'scratch' in name]):.2f} bits better" in text
    )
    assert f"equal tokens lose {lost([run for name, run in runs.items() if 'SX-A' in name]):.2f} bits" in text


CRITERIA = {"l1": "magnitude", "wanda": "Wanda", "ria": "RIA", "sparsegpt": "SparseGPT"}
PATTERNS = ("unstructured", "4:8", "2:4")


def masks():
    """Bits per byte of the seeds: {(criterion, in turn, pattern): (right after the mask, after an epoch)}."""
    folder = pathlib.Path(__file__).parents[1] / "results/lm_sparsity/records"
    found = {}
    for record in fairness.read_folder(folder):
        criterion, pattern = record.name.split(", ")
        after = [[seed.epochs[epoch].test_accuracy for seed in record.results] for epoch in (0, -1)]
        found[criterion.removesuffix(" in turn"), "in turn" in criterion, pattern] = after
    return found


def test_masks_are_what_the_records_say():
    found, cells = masks(), []
    for after, shown_as in enumerate(("no retraining", "one epoch")):
        for criterion, shown_criterion in CRITERIA.items():
            for in_turn in (False, True)[: 1 if criterion == "l1" else 2]:
                bits = [found[criterion, in_turn, pattern][after] for pattern in PATTERNS]
                order = "layer after layer" if in_turn else "-" if criterion == "l1" else "all at once"
                values = [f"{statistics.mean(seeds):.3f} ± {statistics.stdev(seeds):.3f}" for seeds in bits]
                cells.append(f"| {' | '.join((shown_criterion, order, shown_as, *values))} |")
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (magnitude|Wanda|RIA|SparseGPT) \|", line)]
    assert rows == cells
    assert len(found) == 21


def test_what_the_page_says_of_masks_is_what_the_records_say():
    found, text = masks(), " ".join(PAGE.split())
    means = {key: [statistics.mean(seeds) for seeds in after] for key, after in found.items()}
    lowest = [
        all(
            ours < theirs for ours, theirs in zip(found["sparsegpt", turn, pattern][0], after[0], strict=True)
        )
        for turn in (False, True)
        for pattern in PATTERNS
        for key, after in found.items()
        if key[0] != "sparsegpt" and key[2] == pattern
    ]
    assert all(lowest)
    assert f"SparseGPT is lowest in all {len(PATTERNS)} patterns and every seed" in text
    gains = {
        pattern: [
            means["l1", False, pattern][0] - means[c, turn, pattern][0]
            for c in ("wanda", "ria")
            for turn in (0, 1)
        ]
        for pattern in PATTERNS
    }
    assert f"at most {max(gains['unstructured']):.2f} bits with unstructured" in text
    assert f"by {min(gains['2:4']):.2f} to {max(gains['2:4']):.2f} with 2:4" in text
    turns = [abs(means[c, True, p][0] - means[c, False, p][0]) for c in list(CRITERIA)[1:] for p in PATTERNS]
    assert f"within {max(turns):.2f} bits. Four" in text
    apart = [
        max(after) - min(after)
        for p in PATTERNS
        for after in [[mean[1] for key, mean in means.items() if key[2] == p]]
    ]
    assert f"to within {max(apart):.2f} bits of one another" in text
