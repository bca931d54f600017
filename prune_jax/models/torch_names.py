"""What PyTorch calls our layers."""

from collections.abc import Callable, Collection, Sequence

from prune_jax.models.catalog import info

_BLOCK = {"down": "downsample.0", "down_bn": "downsample.1"}
_HIDDEN = ("pre_logits.fc1", "pre_logits.fc2")


def namer(name: str, keys: Collection[str]) -> Callable[[str], str]:
    """Function from our layer paths of network `name` to PyTorch's module names.

    `keys` of the state dict at hand tell apart the places where libraries differ: the head of a
    ResNet is torchvision's and timm's 'fc' or 'linear' (CIFAR code), VGG's dense layers are
    torchvision's 'classifier.0, 3, 6', timm's 'pre_logits.fc1, fc2' and 'head.fc', or a lone
    'classifier'. Raises ValueError for networks that PyTorch's libraries don't have.
    """
    stages = info(name).stages
    if name.startswith("resnet"):
        head = "linear" if "linear.weight" in keys else "fc"
        top = {"stem": "conv1", "bn": "bn1", "head": head}
        places = _places([len(patterns) for patterns in stages[1:-1]])
        return lambda layer: top.get(layer) or _in_block(layer, places)
    if name.startswith("vgg"):
        return lambda layer: _in_vgg(layer, keys)
    raise ValueError(f"{name} has no counterpart in torchvision or timm; a ResNet or a VGG has")


def _places(blocks: Sequence[int]) -> list[str]:
    return [f"layer{stage + 1}.{j}" for stage, count in enumerate(blocks) for j in range(count)]


def _in_block(layer: str, places: Sequence[str]) -> str:
    _, i, inner = layer.split("/")
    return f"{places[int(i)]}.{_BLOCK.get(inner, inner)}"


def _in_vgg(layer: str, keys: Collection[str]) -> str:
    if layer == "head":
        heads = ("classifier.6", "head.fc", "classifier")
        return next((head for head in heads if f"{head}.weight" in keys), heads[0])
    kind, i = layer.split("/")
    if kind == "dense":
        timm = f"{_HIDDEN[0]}.weight" in keys
        return _HIDDEN[int(i)] if timm else f"classifier.{3 * int(i)}"
    return f"features.{vgg_position(int(i)) + (kind == 'bns')}"


def vgg_position(i: int) -> int:
    """Index of VGG19's convolution `i` in PyTorch's `features`: conv, norm, ReLU, and the pools between."""
    pools = sum(i >= first for first in (2, 4, 8, 12))
    return 3 * i + pools
