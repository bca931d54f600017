"""Costs of the paper's four networks in closed form, as functions of the ratio, to check printed tables.

Counted as the companion repositories do. Multiply-accumulates are those of convolutions and dense layers, nothing
else. Params include batch norm's scale and shift and the dense layer's bias. ``ceil(ratio * n)`` filters go, never all.
These formulas know nothing of the library's own counter, so each can check the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from types import MappingProxyType


@dataclass(frozen=True)
class Count:
    """Multiply-accumulates per sample and parameters."""

    macs: int
    params: int

    def __add__(self, other: "Count") -> "Count":
        return Count(self.macs + other.macs, self.params + other.params)


def kept(n: int, ratio: float) -> int:
    """Filters that stay of ``n`` at a pruning ratio: n - ceil(ratio * n), at least one."""
    removed = int((Decimal(repr(ratio)) * n).to_integral_value(ROUND_CEILING))
    return n - min(removed, n - 1)


def conv_bn(inputs: int, outputs: int, kernel: int, side: int) -> Count:
    """A convolution without bias onto a square map of ``side``, with its batch norm."""
    weights = inputs * outputs * kernel * kernel
    return Count(weights * side * side, weights + 2 * outputs)


def dense(inputs: int, outputs: int) -> Count:
    """A dense layer with bias."""
    return Count(inputs * outputs, inputs * outputs + outputs)


def resnet34(ratio: float, classes: int = 100) -> Count:
    """224 x 224. Conv1 of all 16 basic blocks is pruned. Option-B shortcuts, stem and head stay whole (Table 4)."""
    total, inputs = conv_bn(3, 64, 7, 112), 64
    for blocks, width, side in ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)):
        for block in range(blocks):
            total += _basic(inputs, width, ratio, side)
            if block == 0 and inputs != width:
                total += conv_bn(inputs, width, 1, side)
            inputs = width
    return total + dense(512, classes)


def resnet56(ratio: float, classes: int = 10) -> Count:
    """32 x 32. Conv1 of all 27 basic blocks is pruned. Option-A shortcuts cost nothing (Table 6)."""
    total, inputs = conv_bn(3, 16, 3, 32), 16
    for width, side in ((16, 32), (32, 16), (64, 8)):
        for _ in range(9):
            total += _basic(inputs, width, ratio, side)
            inputs = width
    return total + dense(64, classes)


def vgg19(ratio: float, classes: int = 100) -> Count:
    """32 x 32, 16 convolutions and one dense layer. Convolutions 1 to 15 are pruned, 0 is spared (Table 7)."""
    widths = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
    total, inputs, first = Count(0, 0), 3, True
    for stage, side in zip(widths, (32, 16, 8, 4, 2), strict=True):
        for width in stage:
            outputs = width if first else kept(width, ratio)
            total += conv_bn(inputs, outputs, 3, side)
            inputs, first = outputs, False
    return total + dense(inputs, classes)


def resnet50(ratios: Sequence[float], classes: int = 1000) -> Count:
    """224 x 224, stride on the 3x3. Conv1 and conv2 of each bottleneck are pruned, one ratio a stage (App. A)."""
    total, inputs = conv_bn(3, 64, 7, 112), 64
    stages = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))
    for (blocks, width, side), ratio in zip(stages, ratios, strict=True):
        for block in range(blocks):
            narrow, outputs = kept(width, ratio), 4 * width
            first_side = side * 2 if block == 0 and inputs != 64 else side
            total += conv_bn(inputs, narrow, 1, first_side) + conv_bn(narrow, narrow, 3, side)
            total += conv_bn(narrow, outputs, 1, side)
            if block == 0:
                total += conv_bn(inputs, outputs, 1, side)
            inputs = outputs
    return total + dense(2048, classes)


def _basic(inputs: int, width: int, ratio: float, side: int) -> Count:
    middle = kept(width, ratio)
    return conv_bn(inputs, middle, 3, side) + conv_bn(middle, width, 3, side)


# Network name as in the published tables -> counts at one ratio for all pruned layers.
UNIFORM: Mapping[str, Callable[[float], Count]] = MappingProxyType(
    {"resnet34": resnet34, "resnet56": resnet56, "vgg19": vgg19}
)
