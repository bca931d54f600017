"""Mystery 1 on real images and a convolutional network: more epochs for the small LR, until the gap closes.

python run.py --config=configs/fashion_mystery1.py
python run.py --config=configs/fashion_mystery1.py --config.quick

Fashion-MNIST (Debian's package dataset-fashion-mnist, or TFDS), 10,000 training images, five convolutions with batch
norm from an orthogonal initialisation, filters pruned by L1 norm. Eight epochs of retraining at LR 1e-2 and at 1e-3;
then N more epochs in the first LR stage of the small LR, as in Table 5. At ratio 0.9 the large LR gets the most
epochs too: a gap that closes against a run of eight epochs may open again against one of as many.

Controls at every ratio, eight epochs and both LRs: `reinit` inherits nothing, its weights are drawn anew from the
same orthogonal law; `rescale` multiplies each pruned kernel by one number.

Shortened so that the whole takes about an hour of one CPU core (estimated), five seeds: N is 24 at ratio 0.5, 88 at
0.7, 200 at 0.95, and 88 and 200 at 0.9. Mean JSV is measured every fourth epoch, of 50 test images.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import mystery1, recipes


def get_config() -> ConfigDict:
    """Four ratios, two initial LRs, OrthP and its two controls, and more epochs for the small LR."""
    config = recipes.conv5_fashion("fashion_mystery1", seeds=5)
    config.model.options = ConfigDict({"init": "orthogonal"})
    config.pretrain.epochs = 12
    config.pretrain.schedule = "0:1e-1,6:1e-2,10:1e-3"
    config.measure.jsv = True
    config.measure.every = 4
    config.measure.examples = 50
    config.retrain_epochs = (8,)
    config.retrain_lrs = (1e-2, 1e-3)
    config.final_lr = 1e-4  # the last LR that the halving rule steps down to
    config.ratios = (0.5, 0.7, 0.9, 0.95)
    config.recoveries = ("none", "orthp", "rescale", "reinit")
    config.extended_from = 8  # epochs, to which the extra ones are added
    config.extensions = (  # ratio, initial LR, extra epochs
        (0.5, 1e-3, 24),
        (0.7, 1e-3, 88),
        (0.9, 1e-3, 88),
        (0.9, 1e-3, 200),
        (0.9, 1e-2, 200),
        (0.95, 1e-3, 200),
    )
    config.report.title = "Mystery 1 on Fashion-MNIST: more epochs for the small LR (five convolutions)"
    config.report.sections = ("extended", *mystery1.SECTIONS)
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: digits, two ratios, few epochs."""
    values = recipes.few_fashion()
    return values | {
        "model.options": values["model.options"] | dict(config.model.options),
        "pretrain.epochs": 3,
        "pretrain.schedule": "0:1e-1,2:1e-2",
        "measure.examples": 10,
        "retrain_epochs": (2,),
        "ratios": (0.9,),
        "extended_from": 2,
        "extensions": ((0.9, 1e-3, 2), (0.9, 1e-2, 2)),
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, recovery and initial LR, and the extended ones."""
    return mystery1.grid(config, config.retrain_epochs) + mystery1.extended(config)
