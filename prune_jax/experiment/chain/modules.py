"""The network that a finished stage holds as a module of the catalog, such as ``models.save_checkpoint`` takes."""

from typing import Any

from flax import nnx

from prune_jax.experiment import networks, twins
from prune_jax.experiment.networks import StageNetwork
from prune_jax.experiment.own import parts as own_parts


def module_of(network: StageNetwork) -> Any:
    """The module, with the sizes and the weights that are left.

    Args:
        network: as ``restore.load`` gives it.

    Raises:
        ValueError: it is no network of the catalog, or its code doesn't run at its sizes.
    """
    if own_parts.is_own(network.model.name):
        raise ValueError(
            f"{network.model.name} is a network of your own: make the module and give it the variables"
        )
    if twins.channels_of(network.model, network.keep):
        raise ValueError(
            f"{network.model.name} runs as a twin of its code at these sizes, {', '.join(sorted(network.keep))}, and "
            "is no module: save its variables"
        )
    widths = {name: len(kept) for name, kept in network.keep.items()}
    module = networks.abstract_model(network.model, widths or None)
    for collection in ("params", "batch_stats"):
        nnx.update(module, network.variables[collection])
    return module
