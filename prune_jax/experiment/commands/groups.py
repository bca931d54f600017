"""``python -m prune_jax groups --model=resnet50``: the coupled channel groups of a network as a table."""

import argparse
import sys
from typing import Any

from prune_jax.experiment.commands import named_network
from prune_jax.text_table import aligned

HEAD = ("name", "channels", "members", "frozen because")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``groups``."""
    named_network.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table. Returns 0, or 2 on bad input."""
    from prune_jax.experiment import networks

    try:
        groups = networks.groups_of(named_network.spec_of(args))
    except ValueError as error:
        print(f"groups: {error}", file=sys.stderr)
        return 2
    print(table(groups))
    return 0


def table(groups: Any) -> str:
    """Columns of text, a line for each group. ``members`` counts the leaf axes that hold its channels."""
    rows = [HEAD] + [(g.name, str(g.size), str(len(g.members)), g.frozen or "") for g in groups]
    return aligned(rows)
