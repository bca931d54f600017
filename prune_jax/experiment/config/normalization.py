"""Per-channel mean and standard deviation of the data sets, where a config leaves them out."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from prune_jax.experiment.own.parts import is_own

Statistics = tuple[float, ...]

# ImageNet's, as in PyTorch's example. The paper's companion repositories use them on CIFAR too.
IMAGENET: tuple[Statistics, Statistics] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of images in 0..1. MNIST's are the usual ones of the whole set. The digits' and Fashion-MNIST's were computed from
# theirs, of the latter from its 60,000 training images.
USUAL: Mapping[str, tuple[Statistics, Statistics]] = MappingProxyType(
    {
        "mnist5k": ((0.1307,), (0.3081,)),
        "mnist": ((0.1307,), (0.3081,)),
        "fashion_mnist": ((0.2860,), (0.3530,)),
        "digits": ((0.3055,), (0.3759,)),
        "cifar10": IMAGENET,
        "cifar100": IMAGENET,
        "imagenet100": IMAGENET,
        "imagenet2012": IMAGENET,
        "synthetic": ((0.5,), (0.2887,)),  # uniform numbers', whatever the channels
    }
)


def per_channel(key: str, given: Any, name: str, channels: int) -> Statistics:
    """``dataset.mean`` or ``dataset.std`` (``key``) of data set ``name``: as given, or the usual ones.

    A data set of the user's own is taken as it is, with mean 0 and std 1.

    Raises ValueError for a number of values that isn't ``channels``, a std that isn't positive, and where
    nothing is given and nothing usual is known.
    """
    values = tuple(map(float, given))
    if not values and is_own(name):
        values = (float(key == "std"),) * channels
    if not values:
        if name not in USUAL:
            raise ValueError(
                f"dataset.{key} is empty and {name} has no usual one here; give {channels} values, "
                f"such as --config.dataset.{key}='({'0.5,' * channels})'"
            )
        values = USUAL[name][key == "std"]
        values = values * channels if len(values) == 1 else values
    if len(values) != channels or (key == "std" and min(values) <= 0):
        raise ValueError(
            f"dataset.{key} is {values}; {name} needs {channels} values"
            + (", all positive" if key == "std" else "")
        )
    return values
