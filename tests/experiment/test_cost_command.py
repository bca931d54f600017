"""The cost command against the paper's golden integers, and its refusals."""

import argparse
import json

import pytest

from prune_jax.experiment.commands import cost

# Counted by hand from the layers' shapes (ResNet34 on 224 x 224, ResNet56 with option-A shortcuts).
GOLDEN = [
    ("--model=resnet34 --num_classes=100 --image_size=224", 3663300608, 21335972, 3663300608, 21335972),
    ("--model=resnet34 --num_classes=100 --ratio=0.5", 3663300608, 21335972, 1900316672, 10789092),
    ("--model=resnet56 --ratio=0.9 --pattern=*conv1", 125485696, 853018, 10838656, 81502),
]


def call(text, capsys):
    parser = argparse.ArgumentParser()
    cost.add_arguments(parser)
    code = cost.run(parser.parse_args(text.split()))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("text", "dense", "dense_params", "pruned", "pruned_params"), GOLDEN)
def test_golden_integers(text, dense, dense_params, pruned, pruned_params, capsys):
    code, out, _ = call(text, capsys)
    line = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert (line["dense_macs"], line["dense_params"]) == (dense, dense_params)
    assert (line["pruned_macs"], line["pruned_params"]) == (pruned, pruned_params)
    assert line["speedup"] == dense / pruned
    assert line["sparsity"] == 1 - pruned_params / dense_params


def test_a_stage_list_follows_the_stages(capsys):
    by_stage = json.loads(call("--model=resnet8 --ratio=0,0.5,0,0.25,0", capsys)[1])
    # one block a stage: conv1 of the first keeps 8 of 16 filters, of the third 48 of 64
    macs = (
        1024 * 9 * (3 * 16 + 16 * 8 + 8 * 16) + 256 * 9 * (16 * 32 + 32 * 32) + 64 * 9 * (32 * 48 + 48 * 64)
    )
    assert by_stage["pruned_macs"] == macs + 640
    assert by_stage["ratio"] == [0, 0.5, 0, 0.25, 0]


def test_patterns_choose_what_is_pruned(capsys):
    one = json.loads(call("--model=lenet5 --ratio=0.5 --pattern=conv1", capsys)[1])
    both = json.loads(call("--model=lenet5 --ratio=0.5 --pattern=conv1 --pattern=conv2", capsys)[1])
    assert both["pruned_macs"] < one["pruned_macs"] < one["dense_macs"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("--model=resnet57", "cost: unknown model 'resnet57'; did you mean 'resnet56'?"),
        ("--model=resnet8 --ratio=half", "cost: --ratio='half' is neither a number nor numbers joined"),
        ("--model=resnet8 --ratio=1", "cost: --ratio='1': a ratio is the fraction removed, in [0, 1)"),
        (
            "--model=resnet8 --ratio=0.5,0.5",
            "cost: sparsify.stage_ratios has 2 entries (0.5, 0.5); resnet8 has",
        ),
        ("--model=resnet8 --pattern=conv9", "no group's name fits 'conv9'"),
        ("--model=resnet8 --image_size=0", "cost: input_shape must be positive sizes, got (0, 0, 3)"),
    ],
)
def test_bad_input_is_named(text, complaint, capsys):
    code, out, err = call(text, capsys)
    assert (code, out) == (2, "")
    assert complaint in err
