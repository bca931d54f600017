"""Choices between the parts of split axes: made apart, as well as trying everything, and once for equal blocks."""

import itertools

import jax
import numpy as np
import pytest
import zoo_nnx
import zoo_wild

from benchmarks.swin_network import swin
from prune_jax.pruning.coupling import analyse
from prune_jax.pruning.jaxpr import solve
from prune_jax.pruning.jaxpr.classes import classes

SMALL = {"depths": (3, 2), "width": 12, "heads": (3, 6), "window": 2, "side": 16, "classes": 5}


@pytest.fixture(autouse=True)
def _biases_without_reshapes():
    with jax.numpy_rank_promotion("allow"):
        yield


def test_blocks_of_a_windowed_transformer_choose_heads_and_equal_blocks_choose_once():
    found = analyse(*swin(**SMALL))
    free = {g.name: g.size for g in found.groups if g.frozen is None}
    heads = {f"stages/{k}/blocks/{n}/qkv": size for k, size in enumerate((3, 6)) for n in range((3, 2)[k])}
    inner = {f"stages/{k}/blocks/{n}/up": size for k, size in enumerate((48, 96)) for n in range((3, 2)[k])}
    assert free == {"patch": 12, "stages/1/merge": 24} | heads | inner
    assert len(found.ledger.splits) > 10
    assert (
        len(found.ledger.choices) == 4
    )  # per width one before the scale of the heads is settled and one after


def test_rows_of_a_bias_table_are_frozen_as_the_positions_are():
    tables = [g for g in analyse(*swin(**SMALL)).groups if g.name.endswith("table:0")]
    assert [g.size for g in tables] == [9] * 5
    assert all("spatial axis" in g.frozen for g in tables)


def every_choice(small):
    """Rank of the best of all choices of one part per split."""
    start = solve._State([], solve.Choice([], [], []), classes(small))
    children = [[(n, k) for k in range(len(split.children))] for n, split in enumerate(small.splits)]
    return min(
        solve._rank(small, solve._decide(small, start, list(parts)).solved, parts)
        for parts in itertools.product(*children)
    )


def test_the_choice_is_as_good_as_the_best_of_all(monkeypatch):
    tried, best = [], solve._best

    def checked(small):
        parts = best(small)
        if np.prod([float(len(split.children)) for split in small.splits]) <= 64:
            start = solve._State([], solve.Choice([], [], []), classes(small))
            ours = solve._rank(small, solve._decide(small, start, parts).solved, parts)
            tried.append((ours[:4], every_choice(small)[:4]))
        return parts

    monkeypatch.setattr(solve, "_best", checked)
    for zoo, name in (
        (zoo_nnx, "groupnorm"),
        (zoo_nnx, "shufflenet"),
        (zoo_wild, "llama"),
        (zoo_wild, "swin"),
    ):
        analyse(*zoo.build(name))
    assert len(tried) >= 3
    assert [ours for ours, _ in tried] == [least for _, least in tried]


def test_a_product_of_frozen_parts_is_frozen_without_a_choice():
    def apply(p, x):
        return (x.reshape(2, 2, 3) * p["w"].reshape(1, 2, 3)).reshape(2, 6) @ p["v"]

    shapes = {name: jax.ShapeDtypeStruct(s, "float32") for name, s in {"w": (6,), "v": (6, 2)}.items()}
    found = analyse(apply, shapes, jax.ShapeDtypeStruct((2, 6), "float32"))
    assert not found.ledger.choices
    (group,) = (g for g in found.groups if any(member.path == "w" for member in g.members))
    assert "network input" in group.frozen
