"""``python -m prune_jax cost --model=resnet34 --ratio=0.5``: exact costs, dense and pruned, as one JSON line."""

import argparse
import json
import sys
from typing import Any

from prune_jax.experiment.commands import named_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cost``."""
    named_network.add_arguments(parser)
    parser.add_argument(
        "--ratio",
        default="0",
        help="fraction removed: one number, or one a stage (stem, stages, head): 0,0.6,0.6,0.6,0.21,0",
    )
    parser.add_argument(
        "--pattern",
        action="append",
        default=[],
        help="glob over group names, repeatable; by default what the paper prunes in the network",
    )


def run(args: argparse.Namespace) -> int:
    """Print the line. Returns 0, or 2 on bad input."""
    try:
        print(json.dumps(costs(args)))
    except ValueError as error:
        print(f"cost: {error}", file=sys.stderr)
        return 2
    return 0


def costs(args: argparse.Namespace) -> dict[str, Any]:
    """Costs of one example's forward pass: MACs (convolutions and dense layers) and params as integers.

    ``speedup`` is dense over pruned MACs, ``sparsity`` the fraction of params that are gone. ValueError for
    an unknown network, a pattern that names nothing prunable, or ratios of the wrong number or size.
    """
    from prune_jax.experiment import networks

    spec, ratios = named_network.spec_of(args), read_ratios(args.ratio)
    if len(ratios) == 1:
        chosen = networks.uniform_ratios(spec, args.pattern, ratios[0])
    else:
        chosen = networks.stage_ratios(spec, args.pattern, ratios)
    dense, pruned = networks.cost_of(spec), networks.cost_of(spec, networks.widths_of(spec, chosen))
    return {
        "model": spec.name,
        "input_shape": spec.input_shape,
        "num_classes": spec.num_classes,
        "ratio": ratios if len(ratios) > 1 else ratios[0],
        "dense_macs": dense.macs,
        "pruned_macs": pruned.macs,
        "dense_params": dense.params,
        "pruned_params": pruned.params,
        "speedup": dense.macs / pruned.macs,
        "sparsity": 1.0 - pruned.params / dense.params,
    }


def read_ratios(text: str) -> tuple[float, ...]:
    """Numbers in [0, 1) from ``'0.5'`` or ``'0,0.6,0.6'``. ValueError naming what can't be read."""
    try:
        ratios = tuple(float(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        raise ValueError(f"--ratio={text!r} is neither a number nor numbers joined by commas") from None
    if not all(0 <= ratio < 1 for ratio in ratios):
        raise ValueError(f"--ratio={text!r}: a ratio is the fraction removed, in [0, 1)")
    return ratios
