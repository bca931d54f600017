"""Training under a mask rule as a stage, sparse from scratch or pruning gradually. It is trained as any stage is."""

from typing import Any

from prune_jax import fairness
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain import train
from prune_jax.experiment.specs import Gradual, Masking, stated


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain. ``macs`` are those of the network as it is computed, zeros included.

    Pruning gradually is a sparsifying action that takes epochs, sparse training from scratch is scratch.
    """
    del lengths  # no rule ends it before its schedule does
    kind, spec = ("sparsify" if isinstance(link.spec, Gradual) else "scratch"), link.spec.train
    return fairness.Stage(kind, link.ids, spec.epochs, spec.schedule, macs, stated(link.spec))


def line(link: Link) -> str:
    """What a dry run says of it."""
    return f"{train.line(link)}, mask rule {described(link.spec.masking)}"


def described(masking: Masking) -> str:
    """A mask rule with its arguments, such as 'rigl (ratio 0.9)'."""
    told = ", ".join(f"{name} {value}" for name, value in masking.arguments)
    return f"{masking.rule} ({told})" if told else masking.rule


def units_of(masking: Masking) -> str:
    """The granularity that a rule prunes at, as a record names it."""
    granularity: Any = dict(masking.arguments).get("granularity")
    return granularity or "unstructured"
