"""Random weights as a stage: what pruning at initialisation acts on."""

import functools

from prune_jax import fairness
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain.imported import save_measured
from prune_jax.experiment.chain.train import fresh, recipe_of
from prune_jax.experiment.specs import Initialise, stated
from prune_jax.experiment.storage import leases
from prune_jax.experiment.training.cohort import Context, is_finished


def finish(context: Context, link: Link) -> None:
    """Draw and measure every seed's weights, unless they are there. BusyError when another process does."""
    spec: Initialise = link.spec
    recipe = recipe_of(link.arm, link.arm.chain[-1])
    for seed, its_id in zip(link.arm.seeds, link.ids, strict=True):
        if is_finished(context, its_id):
            continue
        with leases.held(context.store.locks, [its_id]):
            if not is_finished(context, its_id):
                about = {"kind": link.kind, "spec": stated(spec), "seed": seed, "parent": None}
                save_measured(
                    context, its_id, functools.partial(fresh, spec.model, None, seed), about, recipe
                )


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain."""
    del lengths  # no epochs are trained
    return fairness.Stage("initialise", link.ids, 0, None, macs, stated(link.spec))


def line(link: Link) -> str:
    """What a dry run says of it."""
    return f"random weights of {link.spec.model.name}"
