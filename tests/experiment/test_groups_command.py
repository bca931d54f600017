"""The groups command: every group with its channels, and why a frozen one is frozen."""

import argparse

from prune_jax.experiment.commands import groups


def call(text):
    parser = argparse.ArgumentParser()
    groups.add_arguments(parser)
    return groups.run(parser.parse_args(text.split()))


def test_the_table_names_groups_sizes_and_reasons(capsys):
    assert call("--model=resnet8") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[0]: line.split() for line in lines}
    assert head.split() == ["name", "channels", "members", "frozen", "because"]
    assert {name: int(cells[name][1]) for name in ("stem", "blocks/0/conv1", "blocks/2/conv1", "head")} == {
        "stem": 16,
        "blocks/0/conv1": 16,
        "blocks/2/conv1": 64,
        "head": 10,
    }
    # its own filters, four vectors of its norm, the next convolution's input
    assert cells["blocks/0/conv1"][2:] == ["6"]
    assert cells["head"][3:] == ["network", "output"]


def test_bad_input_is_named(capsys):
    assert call("--model=resnet8 --num_classes=0") == 2
    assert "groups: num_classes must be at least 1, got 0" in capsys.readouterr().err
