"""The figures that README and pages show beside those of reports: ``python docs/draw_figures.py``."""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen

import prune_jax
from prune_jax import fairness, models
from prune_jax.report import figures

FIGURES = Path(__file__).parent / "figures"
MYSTERY = FIGURES.parents[1] / "results" / "mystery1_mlp7"
RATIO = "0.9"
# The arms of the first mystery in the words of README, by their methods, in the order of the panels.
ARMS = {
    "l1": "pruned by L1 norm, nothing more",
    "l1+orthp@2": "then made orthogonal (OrthP)",
    "l1+rescale": "control: each kernel rescaled",
    "l1+reinit": "control: nothing inherited (reinit)",
}


class Block(linen.Module):
    """Attention and an MLP, each after a layer norm."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens (batch, length, channels) to the same."""
        x = x + linen.MultiHeadDotProductAttention(num_heads=4)(linen.LayerNorm()(x))
        inner = linen.gelu(linen.Dense(64)(linen.LayerNorm()(x)))
        return x + linen.Dense(x.shape[-1])(inner)


class Transformer(linen.Module):
    """Two blocks and a head of ten classes."""

    @linen.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Tokens (batch, length) to logits."""
        x = linen.Embed(50, 32)(tokens)
        for _ in range(2):
            x = Block()(x)
        return linen.Dense(10)(x.mean(1))


def first_mystery(path: Path) -> None:
    """Draw the arms of the first mystery at one pruning ratio, from the committed records."""
    records = [r for r in fairness.read_folder(MYSTERY) if r.axes.ratio == RATIO and r.method in ARMS]
    records.sort(key=lambda record: list(ARMS).index(str(record.method)))
    figures.accuracy_vs_epochs(records, path, {(RATIO, method): title for method, title in ARMS.items()})


def coupled_groups() -> None:
    """Draw the transformer and ResNet-8, half of each pruned."""
    net, tokens = Transformer(), jnp.zeros((1, 8), jnp.int32)
    pruned = prune_jax.prune((net, net.init(jax.random.key(0), tokens)), tokens, ratio=0.5)
    prune_jax.draw(pruned, title="A transformer of two blocks").save(FIGURES / "groups_transformer.svg")
    resnet = models.create("resnet8", num_classes=10, input_shape=(32, 32, 3), key=jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    pruned = prune_jax.prune(resnet, image, ratio=0.5, layers=("*conv1", "*conv2"))
    prune_jax.draw(pruned, title="ResNet-8").save(FIGURES / "groups_resnet8.svg")


if __name__ == "__main__":
    first_mystery(FIGURES / "first_mystery.png")
    coupled_groups()
