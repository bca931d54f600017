"""``python -m prune_jax COMMAND``: run, cost, groups, spectrum, sensitivity, compare, record, tidy,
report, ledger.

``COMMAND --help`` says more.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

# Command -> module with add_arguments(parser) and run(arguments), and what it does. Only the command that
# is called is imported: compare and report run where there is no JAX. The flags of run are its config's keys too,
# which argparse doesn't know: it has start(program, arguments) instead.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "run": ("prune_jax.run_command", "an experiment from its config, as run.py does"),
        "cost": ("prune_jax.experiment.commands.cost", "multiply-accumulates and params, dense and pruned"),
        "groups": (
            "prune_jax.experiment.commands.groups",
            "the channels of a network that live or die together",
        ),
        "spectrum": (
            "prune_jax.experiment.commands.spectrum",
            "Jacobian singular values of a finished stage",
        ),
        "sensitivity": (
            "prune_jax.experiment.commands.sensitivity",
            "what a finished stage loses when one group alone is pruned",
        ),
        "compare": ("prune_jax.fairness.cli", "which comparison setups hold between runs"),
        "record": (
            "prune_jax.fairness.record_command",
            "records from a paper's table that was typed in as CSV",
        ),
        "tidy": ("prune_jax.fairness.tidy", "all records as one CSV, a row for each record and seed"),
        "report": (
            "prune_jax.report.cli",
            "our runs beside a table of the paper, or a report's tables",
        ),
        "ledger": (
            "prune_jax.report.ledger.command",
            "any number of records as a page where any two rows give their verdict",
        ),
    }
)
# Command -> who draws its figure.
DRAWINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "spectrum": ("prune_jax.report.jacobian_figures", "one_histogram"),
        "sensitivity": ("prune_jax.report.heat_map", "heat_map"),
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code, which is 2 for unknown commands and arguments.

    Without a command the list of them is printed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    listing = "\n".join(f"  {name:12}{does}" for name, (_, does) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m prune_jax",
        description=f"commands:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND")
    if not given:
        parser.print_help(sys.stderr)
        return 2
    name = parser.parse_args(given[:1]).command
    module, does = COMMANDS[name]
    command = import_module(module)
    if name == "run":
        return command.start(("-m", "prune_jax", "run"), given[1:])
    own = argparse.ArgumentParser(prog=f"python -m prune_jax {name}", description=does)
    command.add_arguments(own)
    if name in DRAWINGS:  # experiments know no figures
        _hush()
        return command.run(own.parse_args(given[1:]), _drawing(name))
    return command.run(own.parse_args(given[1:]))


def _drawing(name: str) -> Callable[..., bool]:
    """What draws a command's figure. Without matplotlib nothing is drawn, which False says."""
    module, function = DRAWINGS[name]
    try:
        return getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return lambda *_: False


def _hush() -> None:
    """TFDS talks. What goes wrong reaches us as an exception."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)


if __name__ == "__main__":
    sys.exit(main())
