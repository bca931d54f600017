"""The PyTorch networks, written out with torchvision's module names, as oracles."""

import torch
from torch import nn
from torch.nn import functional

VGG19 = (2, 2, 4, 4, 4)


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """Basic block with `sizes` (3, 3), bottleneck with (1, 3, 1); the stride is on the first 3x3."""

    def __init__(self, inputs, widths, sizes, stride, project):
        super().__init__()
        self.count = len(sizes)
        self.project = project
        channels = [inputs, *widths]
        strided = sizes.index(3)
        for i, size in enumerate(sizes):
            step = stride if i == strided else 1
            self.add_module(f"conv{i + 1}", conv(channels[i], channels[i + 1], size, step))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(channels[i + 1]))
        self.pad = (channels[-1] - inputs) // 2
        self.stride = stride
        if project:
            self.downsample = nn.Sequential(
                conv(inputs, channels[-1], 1, stride), nn.BatchNorm2d(channels[-1])
            )

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = functional.relu(y) if i < self.count else y
        if self.project:
            x = self.downsample(x)
        elif self.pad:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(y + x)


class ImageNetResNet(nn.Module):
    def __init__(self, sizes, counts, classes, width=64):
        super().__init__()
        expansion = 4 if len(sizes) == 3 else 1
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, count in enumerate(counts):
            inner = width * 2**stage
            outputs = inner * expansion
            blocks = []
            for j in range(count):
                stride = 2 if stage and j == 0 else 1
                widths = [inner] * (len(sizes) - 1) + [outputs]
                blocks.append(Block(inputs, widths, sizes, stride, inputs != outputs))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class SmallResNet(nn.Module):
    """Three stages, option A; the head is called `linear` as in the CIFAR repositories."""

    def __init__(self, n, classes, channels=3):
        super().__init__()
        self.conv1 = conv(channels, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = []
            for j in range(n):
                stride = 2 if stage and j == 0 else 1
                blocks.append(Block(inputs, [width, width], (3, 3), stride, False))
                inputs = width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def vgg_features(pools, bias):
    layers, inputs = [], 3
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512, 512), VGG19, strict=True)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, 1, 1, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        layers += [nn.MaxPool2d(2)] if stage < pools else []
    return nn.Sequential(*layers)


class CifarVGG(nn.Module):
    def __init__(self, classes, bias):
        super().__init__()
        self.features = vgg_features(4, bias)
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class ImageNetVGG(nn.Module):
    def __init__(self, pixels, hidden, classes):
        super().__init__()
        self.features = vgg_features(5, True)
        self.classifier = nn.Sequential(
            nn.Linear(512 * pixels, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def randomised(net, seed):
    """Every tensor of the state dict random, running statistics included; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.fill_(17)
        elif value.ndim == 1:
            value.uniform_(0.4, 1.2, generator=generator)
        else:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
    return net.eval()
