"""The network that a command line names: its arguments, and the sizes that the paper runs it at."""

import argparse
from collections.abc import Mapping
from types import MappingProxyType

from prune_jax.experiment.specs import ModelSpec

IMAGENET, CIFAR10, CIFAR100, MNIST = (224, 3, 1000), (32, 3, 10), (32, 3, 100), (28, 1, 10)
# Image side, channels and classes where the command line leaves them out. CIFAR10's for what isn't listed.
USUAL: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        **dict.fromkeys(("resnet18", "resnet34", "resnet50"), IMAGENET),
        **dict.fromkeys(("mlp7_linear", "mlp7_relu", "lenet5", "conv5_bn"), MNIST),
        "vgg19": CIFAR100,
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the network's name and its sizes."""
    parser.add_argument("--model", required=True, help="a network's name, such as resnet34 or my_parts:net")
    for name, what in (
        ("num_classes", "outputs"),
        ("image_size", "pixels of a side"),
        ("channels", "per pixel"),
    ):
        parser.add_argument(
            f"--{name}", type=int, help=f"{what}; by default what the paper trains the network on"
        )


def spec_of(args: argparse.Namespace) -> ModelSpec:
    """The spec that the arguments name. ValueError for an unknown network or sizes it can't take."""
    from prune_jax.experiment import networks
    from prune_jax.experiment.own import parts as own_parts

    given = (args.image_size, args.channels, args.num_classes)
    usual = USUAL.get(args.model, CIFAR10)
    side, channels, classes = (u if g is None else g for g, u in zip(given, usual, strict=True))
    source = own_parts.source_of(args.model, "--model") if own_parts.is_own(args.model) else ""
    spec = ModelSpec(args.model, (side, side, channels), classes, source=source)
    networks.network_of(spec)
    return spec
