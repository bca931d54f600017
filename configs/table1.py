r"""Table 1: plain L1-norm pruning, retrained as well as its successors, beside their published numbers.

python run.py --config=configs/table1.py --config.base.checkpoint=resnet50.safetensors   (as the paper)
python run.py --config=configs/table1.py                  (pretrains its own ResNet50 first)
python run.py --config=configs/table1.py --config.quick   (digits, MLP-7, every epoch count / 30)
python run.py --config=configs/table1.py --config.dataset.name=mnist5k --config.model.name=resnet8 \
    --config.shorten=10 --workdir=runs/table1_mnist5k
python -m prune_jax report runs/table1 --table=1          (ours beside the paper's)

The paper starts from torchvision's ResNet50; a torchvision or timm state dict will do. ImageNet is
streamed as TFDS prepares it; where that isn't there, the launch says the command.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, shortening, speedups


def get_config() -> ConfigDict:
    """Two rows: the ratios of Appendix A that give 2.31x and 2.56x."""
    config = recipes.imagenet("table1", "imagenet2012", "resnet50")
    config.dense = recipes.plan_of(90, "0:1e-1,30:1e-2,60:1e-3")  # PyTorch's ImageNet example
    config.finetune = recipes.plan_of(90, "0:1e-2,30:1e-3,60:1e-4,75:1e-5")
    config.rows = (  # the printed speedup, and the ratios of stem, four stages and head
        (2.31, (0.0, 0.6, 0.6, 0.6, 0.21, 0.0)),
        (2.56, (0.0, 0.74, 0.74, 0.6, 0.21, 0.0)),
    )
    config.tables = (1,)
    config.report.title = "Table 1: L1-norm pruning beside published methods"
    config.report.sections = ("beside_paper", "base", "accuracy")
    return config


quick = recipes.quick_rows  # both rows, at uniform ratios of the same speedup


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per speedup; a network with other stages is pruned uniformly to the same speedup."""
    spec, layers = speedups.spec_of(config), tuple(config.sparsify.layers)
    runs = []
    for speedup, ratios in config.rows:
        if speedups.has_stages(spec, len(ratios)):
            chosen: dict[str, Any] = {"sparsify.stage_ratios": ratios}
        else:
            chosen = {"sparsify.ratio": speedups.ratio_for(spec, layers, speedup)}
        label = f"L1-norm (reimpl) {speedup:g}x"
        runs.append({"label": label, "row": label, **chosen, **_training(config)})
    return runs


def _training(config: ConfigDict) -> dict[str, Any]:
    """Pretraining and retraining, shortened."""
    out: dict[str, Any] = {}
    for stage, key in (("pretrain", "dense"), ("retrain", "finetune")):
        short = shortening.schedule(config, key, shortening.divisor(config))
        out |= {f"{stage}.epochs": short.epochs, f"{stage}.schedule": str(short)}
    return out
