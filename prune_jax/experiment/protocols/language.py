"""What configs of language models share: a decoder on the standard library's sources, and budgets in tokens."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from prune_jax.experiment import networks
from prune_jax.experiment.config.chain import override
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.config.sparsify import ratios_of
from prune_jax.experiment.protocols import speedups
from prune_jax.nearest import unknown

NEAR = 0.015  # how far FLOPs in all may be from scratch's: within the 2 % that SX-B is judged by


def small_decoder(experiment: str) -> ConfigDict:
    """A decoder of 1.05 million parameters on windows of 128 bytes, AdamW, the Jacobian before and after stages."""
    config = default_config()
    config.experiment = experiment
    config.dataset.name = "stdlib_text"
    config.dataset.window = 128
    config.dataset.train_examples = 1000  # windows an epoch draws from: 128,000 bytes
    config.model.name = "decoder"
    config.model.options = ConfigDict(
        {"hidden": 128, "depth": 4, "heads": 8, "kv_heads": 4, "head_dim": 16, "mlp": 512}
    )
    config.optimizer.name = "adamw"
    config.optimizer.batch_size = 16
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.optimizer.b2 = 0.95
    config.seeds = (0, 1, 2)
    config.sparsify.evidence.batches = 8
    config.measure.jsv = True
    config.measure.every = 1000  # before and after the stages alone
    config.measure.examples = 2  # each has a Jacobian of 256 outputs
    return config


def few_windows() -> dict[str, Any]:
    """Quick values: a tiny decoder, short windows, a part of them, two seeds."""
    return {
        "dataset.window": 24,
        "dataset.train_examples": 128,
        "model.options.hidden": 16,
        "model.options.depth": 2,
        "model.options.heads": 4,
        "model.options.kv_heads": 2,
        "model.options.head_dim": 8,
        "model.options.mlp": 20,
        "seeds": (0, 1),
        "sparsify.evidence.batches": 2,
        "measure.jsv": False,  # a Jacobian of 256 outputs takes as long to compile as all the rest
    }


class Left(NamedTuple):
    """What a removal leaves: how many channels of each group or how many blocks, and dense MACs over small ones."""

    widths: tuple[tuple[str, int], ...]
    speedup: float


def removal(config: ConfigDict, name: str, ratio: float) -> dict[str, Any]:
    """The keys of ``sparsify`` that ``config.removals`` has under a name, at a ratio, as a sweep's overrides.

    Raises:
        ValueError: nothing has that name.
    """
    if name not in config.removals:
        raise ValueError(unknown("removed:", name, list(config.removals)))
    action = dict(config.removals[name].items()) | {"ratio": ratio}
    return {f"sparsify.{key}": value for key, value in action.items()}


def what_is_left(config: ConfigDict, action: dict[str, Any]) -> Left:
    """The architecture after an action, before any data is read. Two actions of one architecture leave equal widths.

    Args:
        config: the whole one.
        action: overrides of ``sparsify``, as ``removal`` gives them.
    """
    spec = speedups.spec_of(config)
    widths = networks.widths_of(spec, ratios_of(override(config, action), spec))
    small = networks.cost_of(spec, widths).macs
    return Left(tuple(sorted(widths.items())), networks.cost_of(spec).macs / small)


def epochs_after(total: int, wanted: int, speedup: float) -> int:
    """How many epochs to train after the cut, so that FLOPs in all are scratch's although epochs are whole.

    Args:
        total: scratch's epochs, of the small network.
        wanted: epochs after the cut, as nearly as can be.
        speedup: dense MACs over small ones.

    Returns:
        Epochs of the small network after the cut. Before it the dense one trains for the others over ``speedup``,
        rounded.

    Raises:
        ValueError: no number of epochs comes within 1.5 % of scratch's FLOPs.

    Example:
        >>> epochs_after(8, 4, 2.0)  # 2 dense epochs cost what 4 small ones do
        4
    """
    for after in sorted(range(1, total), key=lambda count: (abs(count - wanted), count)):
        dense = (total - after) / speedup
        if round(dense) >= 1 and abs(round(dense) - dense) * speedup <= NEAR * total:
            return after
    raise ValueError(
        f"at speedup {speedup:.3g} no split of {total} epochs has scratch's FLOPs; take more epochs"
    )
