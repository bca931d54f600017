"""A regularised stage: trained like any other (``chain.train``), and stated as a part of pruning."""

from prune_jax import fairness
from prune_jax.experiment import networks
from prune_jax.experiment.arm import Link
from prune_jax.experiment.own.regularizer import regularizer_of
from prune_jax.experiment.specs import ModelSpec, Regularise, stated
from prune_jax.pruning.jaxpr.reading import leaf_paths
from prune_jax.schedules import LRSchedule


def recorded(link: Link, macs: float, lengths: set[int]) -> fairness.Stage:
    """The link of a record's chain: a sparsify stage with epochs, at ``macs`` a forward pass.

    ``lengths``: the epochs that the seeds took, which a stop rule may have made differ. Where they do, epochs and
    schedule are unstated.
    """
    spec: Regularise = link.spec
    train, told = spec.train, stated(spec)
    extra = extra_macs(link.arm.model, spec)
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


def extra_macs(model: ModelSpec, spec: Regularise) -> float | None:
    """MACs per sample that the penalty takes in a training step, in the dense network; None where it takes none."""
    macs = regularizer_of(spec.regularizer).macs
    if macs is None:
        return None
    params = networks.network_of(model).variables["params"]
    sizes = {f"params/{path}": leaf.size for path, leaf in leaf_paths(params)}
    pushed = {name for name, ratio in spec.ratios if ratio > 0}
    groups = [group for group in networks.groups_of(model) if group.name in pushed]
    return sum(macs(group, sizes[group.producer.path]) for group in groups) / spec.train.batch_size
