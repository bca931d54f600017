"""The chain: every stage of an arm brought to its end on disk, for every seed."""

from prune_jax.experiment.arm import Arm, links
from prune_jax.experiment.chain import end_spectra
from prune_jax.experiment.chain.kinds import kind_of
from prune_jax.experiment.training.cohort import Context


def run_chain(context: Context, arm: Arm) -> None:
    """Finish every stage of ``arm`` that is not on disk yet, parents first, and measure what is missing.

    Raises BusyError, with everything done that could be, where another process computes a stage that is needed.
    """
    for link in links(arm):
        kind_of(link.spec).finish(context, link)
    end_spectra.measure_missing(context, arm)


def is_chain_finished(context: Context, arm: Arm) -> bool:
    """Whether nothing of ``arm`` is left to compute."""
    there = all(kind_of(link.spec).is_there(context, link) for link in links(arm))
    return there and not end_spectra.missing(context.store, arm, context.measure)
