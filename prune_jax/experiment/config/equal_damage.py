"""``config.sparsify.allocation = 'sensitivity'``: what it needs, checked before any work."""

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.config.examples import gathering
from prune_jax.experiment.specs import ModelSpec, Sensing
from prune_jax.pruning.allocation import pruned_count

NAME = "sensitivity"


def spec_of(config: ConfigDict, model: ModelSpec, dataset: AnyDataset) -> Sensing | None:
    """How sensitivities are measured. None for another allocation. Raises ValueError."""
    section = config.sparsify
    if section.allocation != NAME:
        return None
    how = section.sensitivity
    ratios = tuple(map(float, how.ratios))
    if not ratios or list(ratios) != sorted(set(ratios)) or not 0 < ratios[0] <= ratios[-1] < 1:
        raise ValueError(
            f"sparsify.sensitivity.ratios is {ratios}; they must rise, each between 0 and 1, such as (0.2, 0.5, 0.8)"
        )
    if section.iterations > 1:
        raise ValueError(
            f"sparsify.iterations is {section.iterations}, and sparsify.allocation {NAME!r} measures the network once: "
            "choose 1, or another allocation"
        )
    examples = gathering(config, "sensitivity", dataset, f"sparsify.allocation is {NAME!r}")
    _refuse_unmaskable(section, model)
    _refuse_out_of_reach(section, model, ratios[-1])
    return Sensing(ratios, examples)


def _refuse_unmaskable(section: ConfigDict, model: ModelSpec) -> None:
    """Raise ValueError for a group whose zeroed channels aren't what pruned ones are."""
    names = networks.unit_sizes(model, section.layers, "filter")
    for group in networks.groups_of(model):
        if group.name in names and not group.maskable:
            raise ValueError(
                f"sparsify.allocation is {NAME!r}, which zeroes channels, and those of {group.name!r} can't be: "
                f"{group.unmaskable}; leave it out of sparsify.layers, or choose allocation 'speedup'"
            )


def _refuse_out_of_reach(section: ConfigDict, model: ModelSpec, most: float) -> None:
    sizes = networks.unit_sizes(model, section.layers, "filter")
    least = {name: n - pruned_count(n, most, round_to=section.round_to) for name, n in sizes.items()}
    fastest = networks.cost_of(model).macs / networks.cost_of(model, least).macs
    if fastest < section.speedup:
        raise ValueError(
            f"sparsify.speedup is {section.speedup:g}; the largest of sparsify.sensitivity.ratios, {most:g}, in all "
            f"that sparsify.layers names gives {model.name} {fastest:.3g}: name more layers, add a larger ratio, or "
            "ask for less"
        )
