"""Mystery 1 on MLP-7-Linear: why does a larger retraining LR look better?

python run.py --config=configs/mystery1_mlp7.py            (the default of `make reproduce`)
python run.py --config=configs/mystery1_mlp7.py --config.quick
python run.py --config=configs/mystery1_mlp7.py --config.long

Two arms are controls of OrthP: `reinit` inherits nothing and starts orthogonal, `rescale` multiplies each pruned kernel
by one number.

Measured with --config.long (2 CPU cores that other work shared, so not timed. jax 0.10.2, seeds 0 to 4): mean JSV
5.12 before, 0.0011 after pruning at ratio 0.9, 1.00 after OrthP. Gap between LR 1e-2 and 1e-3 after 1, 3, 10, 30, 90
epochs, in points of test accuracy: with OrthP at ratio 0.9 +11.1, +6.0, +1.9, -0.6, -1.4; without it +1.3, +5.6,
+11.0, +43.6, +57.7 at ratio 0.9 (the small LR is still near chance), +31.2, +43.8, +31.7, +2.3, -0.3 at 0.7, +10.3,
+4.6, +1.1, -0.9, -1.2 at 0.5. With `reinit` at ratio 0.9 +11.7, +5.8, +1.8, -0.7, -2.2. Its records:
results/mystery1_mlp7. Not measured on an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import mystery1, recipes


def get_config() -> ConfigDict:
    """MLP-7-Linear on 4,000 MNIST images: prune by L1, retrain under two initial LRs for ever longer."""
    config = recipes.mlp7_mnist("mystery1_mlp7")
    config.seeds = (0, 1, 2, 3, 4)
    config.pretrain.epochs = 30
    config.pretrain.schedule = "0:1e-2"
    config.sparsify.ratio = 0.9
    config.measure.jsv = True
    config.measure.examples = 200
    config.retrain_epochs = (1, 3, 10, 30)
    config.retrain_lrs = (1e-2, 1e-3)
    config.final_lr = 1e-4  # the last LR that the halving rule steps down to
    config.ratios = (0.9, 0.7, 0.5)
    config.recoveries = ("none", "orthp", "rescale", "reinit")
    config.report.title = "Mystery 1: why a larger retraining LR looks better (MLP-7-Linear)"
    config.report.sections = mystery1.SECTIONS
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the 8x8 digits, two seeds, a few epochs."""
    del config
    return {
        "dataset.name": "digits",
        "seeds": (0, 1),
        "pretrain.epochs": 4,
        "retrain_epochs": (1, 4),
        "ratios": (0.9,),
        "measure.examples": 50,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, recovery, initial LR and number of retraining epochs; --config.long adds 90 epochs."""
    return mystery1.grid(config, (*config.retrain_epochs, *((90,) if config.long else ())))
