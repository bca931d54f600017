"""A regularised stage: trained like any other (``chain.train``), and stated as a part of pruning."""

from prune_jax import fairness
from prune_jax.experiment import networks
from prune_jax.experiment.arm import Link
from prune_jax.experiment.own.regularizer import regularizer_of
from prune_jax.experiment.specs import Regularise, Sparsify, stated
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.schedules import LRSchedule


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain: a sparsify stage with epochs, at ``macs`` a forward pass.

    ``lengths``: the epochs that the seeds took, which a stop rule may have made differ. Where they do, epochs and
    schedule are unstated.
    """
    spec: Regularise = link.spec
    train, told = spec.train, stated(spec)
    extra = extra_macs(link)
    if len(lengths) > 1:
        return fairness.Stage("sparsify", link.ids, None, None, macs, told, extra)
    epochs = next(iter(lengths), train.epochs)
    schedule = str(LRSchedule.parse(train.schedule, train.epochs).head(epochs))
    return fairness.Stage("sparsify", link.ids, epochs, schedule, macs, told, extra)


def line(link: Link) -> str:
    """What a dry run says of it."""
    spec: Regularise = link.spec
    most = "at most " if spec.stop and regularizer_of(spec.regularizer).stops else ""
    return f"{spec.regularizer}, {most}{spec.train.epochs} epochs, LR {spec.train.schedule}"


def extra_macs(link: Link) -> float | None:
    """MACs per sample that the penalty takes in a training step. None where it takes none."""
    spec, model = link.spec, link.arm.model
    macs = regularizer_of(spec.regularizer).macs
    if macs is None:
        return None
    shapes = {path: leaf.shape for path, leaf in leaf_paths(networks.small_variables(model, _widths(link)))}
    pushed = {name for name, ratio in spec.ratios if ratio > 0}
    groups = [group for group in networks.groups_of(model) if group.name in pushed]
    return sum(macs(group, shapes[group.producer.path]) for group in groups) / spec.train.batch_size


def _widths(link: Link) -> dict[str, int]:
    """The widths of the network as the stage trains it. Penalties that state MACs follow cuts of known ratios."""
    before = [spec for spec in link.arm.chain[: link.position] if isinstance(spec, Sparsify)]
    return networks.widths_of(link.arm.model, before[-1].ratios, before[-1].round_to) if before else {}
