"""PyTorch twins of our networks, for side-by-side timing; channels-last for the convolutional one."""

import itertools

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inside, width, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.pad = stride, (outside - inside) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return torch.relu(y + x)


def resnet(depth, channels=1, classes=10, kept=1.0):
    """CIFAR ResNet with option-A shortcuts; `kept` is the share of each block's first filters that stay."""
    n = (depth - 2) // 6
    blocks, inside = [], 16
    for stage, outside in enumerate((16, 32, 64)):
        for i in range(n):
            blocks.append(Block(inside, max(1, int(outside * kept)), outside, 2 if stage and not i else 1))
            inside = outside
    stem = [nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    return nn.Sequential(*stem, *blocks, *head).to(memory_format=torch.channels_last)


def mlp7(inputs=784, hidden=100, classes=10):
    sizes = [inputs, *[hidden] * 6, classes]
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(nn.Flatten(), *layers)


def network(name):
    if name == "mlp7_linear":
        return mlp7()
    if name.startswith("resnet"):
        return resnet(int(name.removeprefix("resnet")))
    raise ValueError(f"no PyTorch twin of {name!r} here")
