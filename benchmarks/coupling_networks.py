"""Networks of the coupling benchmark: ours in NNX or plain JAX, the peer's in PyTorch with the same shapes."""

import jax

from benchmarks.llama_network import llama
from benchmarks.swin_network import swin
from benchmarks.unet_network import unet

FUNCTIONS = {
    "swin_t": swin,
    "swin_s": lambda: swin(depths=(2, 2, 18, 2)),
    "unet": unet,
    "llama_7b": llama,
    "llama_46": lambda: llama(depth=46),
}


def ours(name):
    """(apply, variables as shapes, one abstract image)."""
    from flax import nnx

    from prune_jax import models

    if name in FUNCTIONS:
        return FUNCTIONS[name]()
    if name == "vit_b16":
        module = nnx.eval_shape(lambda: _vit(nnx)(nnx.Rngs(0)))
    elif name == "resnet152":
        from prune_jax.models.keys import stream
        from prune_jax.models.resnet import Bottleneck, ResNet

        module = nnx.eval_shape(
            lambda: ResNet(
                block=Bottleneck,
                blocks=(3, 8, 36, 3),
                num_classes=1000,
                input_shape=(224, 224, 3),
                widths=None,
                rngs=stream(jax.random.key(0)),
                zero_init_residual=False,
            )
        )
    else:
        module = models.abstract(name, num_classes=1000, input_shape=(224, 224, 3))
    network = models.functional(module)
    return network.apply, network.variables, jax.ShapeDtypeStruct((1, 224, 224, 3), "float32")


def _vit(nnx):
    import jax.numpy as jnp

    class Block(nnx.Module):
        def __init__(self, width, heads, inner, rngs):
            self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
            self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
            self.up, self.down = nnx.Linear(width, inner, rngs=rngs), nnx.Linear(inner, width, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))

    class ViT(nnx.Module):
        def __init__(self, rngs, width=768, depth=12):
            self.patch = nnx.Conv(3, width, (16, 16), strides=16, padding="VALID", rngs=rngs)
            self.token = nnx.Param(jnp.zeros((1, 1, width)))
            self.position = nnx.Param(jnp.zeros((1, 197, width)))
            self.blocks = nnx.List([Block(width, 12, 3072, rngs) for _ in range(depth)])
            self.norm, self.head = (
                nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs),
                nnx.Linear(width, 1000, rngs=rngs),
            )

        def __call__(self, x, train=False):
            x = self.patch(x)
            x = x.reshape(x.shape[0], -1, x.shape[-1])
            token = jnp.broadcast_to(self.token[...], (x.shape[0], *self.token.shape[1:]))
            x = jnp.concatenate([token, x], 1) + self.position[...]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)[:, 0])

    return ViT


def peer(name):
    """(module, one image) in PyTorch."""
    import torch

    module = _torch_vit() if name == "vit_b16" else _torch_resnet50()
    return module.eval(), torch.zeros(1, 3, 224, 224)


def _torch_resnet50():
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, inside, width, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
            self.down = None
            if stride > 1 or inside != 4 * width:
                down = nn.Conv2d(inside, 4 * width, 1, stride, bias=False)
                self.down = nn.Sequential(down, nn.BatchNorm2d(4 * width))

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y)))))
            return torch.relu(y + (x if self.down is None else self.down(x)))

    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for k in range(depth):
            layers.append(Bottleneck(inside, width, 2 if stage and not k else 1))
            inside = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def _torch_vit(width=768, depth=12):
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
            self.attention = nn.MultiheadAttention(width, 12, batch_first=True)
            self.up, self.down = nn.Linear(width, 3072), nn.Linear(3072, width)

        def forward(self, x):
            y = self.norm1(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, width, 16, 16)
            self.token, self.position = (nn.Parameter(torch.zeros(1, n, width)) for n in (1, 197))
            self.blocks = nn.Sequential(*[Block() for _ in range(depth)])
            self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
            return self.head(self.norm(self.blocks(x))[:, 0])

    return ViT()
