"""Exact selection of the lowest scores, beside full sorts and beside a plain threshold.

python -m benchmarks.select [--weights 25500000] [--ratio 0.9] [--rounds 3] [--out FILE]

The scores are those of 25.5 million weights (as many as ResNet-50 has), float32: nearly all different, and rounded
to few values, as low precision gives. 'select' is ``granularity.select``; 'argsort' sorts all scores stably on the
host; 'jaxpruner' sorts them in JAX, settles ties by index and rounds the number that stays, in float32, as
jaxpruner's mask_calculator.py does; 'threshold' sorts in JAX and keeps what is greater than the k-th score. They take
turns. Seconds are medians over the rounds, also as multiples of select's. ``count_error`` is how many weights too
many (+) or too few (-) are pruned. 'layouts' are whole masks on eight layers of as many weights together: single
weights of each layer and ranked over all layers, 2:4, and blocks of 4 x 4 that are ranked over all layers.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.provenance import about
from prune_jax.pruning.granularity import ceiling, select
from prune_jax.pruning.layouts.blocks import block_mask
from prune_jax.pruning.layouts.n_of_m import Pattern, n_of_m_mask
from prune_jax.pruning.layouts.unstructured import unstructured_mask


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=25_500_000)
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--values", type=int, default=100, help="how many different scores the rounded case has"
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    normal = np.abs(np.random.default_rng(0).normal(size=asked.weights).astype(np.float32))
    step = np.float32(normal.max() / asked.values)
    result = {
        **about("benchmarks.select"),
        "weights": asked.weights,
        "ratio": asked.ratio,
        "different": measured(normal, asked),
        "ties": measured(np.floor(normal / step) * step, asked),
    }
    result["layouts"] = layouts(normal, asked)
    text = json.dumps(result, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


def layouts(scores, asked):
    """Seconds for whole masks of weights in groups, on eight layers alike."""
    rows = scores.size // (8 * 1024)
    tree = {
        f"layer{k}": {"kernel": part} for k, part in enumerate(scores[: rows * 8192].reshape(8, rows, 1024))
    }
    flat = {f"{name}/kernel": layer["kernel"] for name, layer in tree.items()}
    ways = {
        "single weights, each layer": lambda: unstructured_mask(tree, flat, asked.ratio),
        "single weights, all layers": lambda: unstructured_mask(tree, flat, asked.ratio, scope="global"),
        "2:4": lambda: n_of_m_mask(tree, flat, Pattern(2, 4), pad=True),
        "block 4x4": lambda: block_mask(tree, flat, asked.ratio, (4, 4), scope="global", pad=True),
    }
    return {name: round(median, 3) for name, median in medians_of(ways, asked.rounds).items()}


def medians_of(ways, rounds):
    """Median seconds of each way; they take turns."""
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def by_argsort(scores, gone):
    keep = np.ones(scores.shape, bool)
    keep[np.argsort(scores, kind="stable")[:gone]] = False
    return keep


@jax.jit
def above(scores, gone):
    return scores > jnp.sort(scores)[gone - 1]


@jax.jit
def ties_by_index(scores, ratio):
    kept = jnp.maximum(jnp.round(scores.size * (1 - ratio)).astype(int), 1)
    last = jnp.argsort(-scores)[kept - 1]
    return (scores > scores[last]) | ((scores == scores[last]) & (jnp.arange(scores.size) <= last))


def measured(scores, asked):
    """Seconds and count error of each way, and whether the two exact ones on the host agree."""
    gone, on_device = ceiling(asked.ratio, scores.size), jnp.asarray(scores)
    ways = {
        "select": lambda: select(scores, gone),
        "argsort": lambda: by_argsort(scores, gone),
        "jaxpruner": lambda: jax.block_until_ready(ties_by_index(on_device, asked.ratio)),
        "threshold": lambda: jax.block_until_ready(above(on_device, gone)),
    }
    keeps = {name: np.asarray(way()) for name, way in ways.items()}  # compiles, too
    medians = medians_of(ways, asked.rounds)
    return {
        "different_values": int(np.unique(scores).size),
        "seconds": {name: round(median, 3) for name, median in medians.items()},
        "times_select": {name: round(median / medians["select"], 1) for name, median in medians.items()},
        "count_error": {name: int(np.count_nonzero(~keep)) - gone for name, keep in keeps.items()},
        "select_is_argsort": bool((keeps["select"] == keeps["argsort"]).all()),
    }


if __name__ == "__main__":
    main()
