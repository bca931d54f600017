"""How long must the small LR train? LR stages that end at plateaus beside a fixed schedule, on MLP-7-Linear.

python run.py --config=configs/plateau_mlp7.py
python run.py --config=configs/plateau_mlp7.py --config.quick

Measured (2 CPU cores shared with other work, 20 minutes; jax 0.10.2, flax 0.12.8, optax 0.2.8; seeds 0, 1, 2): spread
of the final accuracy over the initial LRs 1e-2, 3e-3, 1e-3, fixed schedule of 30 epochs against plateau-extended, in
points: 1.03 +- 0.37 against 0.17 +- 0.30 at ratio 0.5, 3.57 +- 0.49 against 1.77 +- 0.31 at 0.7, 50.5 +- 8.8 against
3.8 +- 1.7 at 0.9. Cost: 134, 174 and 309 epochs on average instead of 30. What it does not do: at 0.5 and 0.7 most
extended runs end lower than the fixed ones (88.0 against 89.4 % for LR 1e-3 at 0.5), since training loss and JSV go on
moving while the network overfits, and at 0.7 a spread of 1.8 points stays, LR 1e-2 ahead. At 0.9 and LR 1e-3, whose
runs end lowest there, the first stage of two of three seeds lasted the 300 epochs that it may: one stood still just
then (JSV moving by 4.9 % a window, 5 % allowed), the other did not (5.1 %). Its records: results/plateau_mlp7. Not
measured on an accelerator.

A linear network has one Jacobian, whatever the input: here neither how many examples the rule watches
(``plateau.examples``) nor the JSV's standard errors over examples (1e-18) mean anything, only the seeds do.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes
from prune_jax.schedules import halving


def get_config() -> ConfigDict:
    """Prune by L1 at three ratios, retrain under three initial LRs: fixed schedules and plateau-extended ones."""
    config = recipes.mlp7_mnist("plateau_mlp7")
    config.measure.jsv = "spectrum"
    config.measure.examples = 512
    config.measure.every = 10
    config.retrain_epochs = 30  # of the fixed schedule
    config.retrain_lrs = (1e-2, 3e-3, 1e-3)
    config.drops = 2  # LR drops, each by ten: as many stages for every initial LR, and one more
    config.ratios = (0.5, 0.7, 0.9)
    config.report.title = "How long must the small LR train? (MLP-7-Linear)"
    config.report.sections = (
        "base",
        "lr_spread",
        "accuracy_beside_jsv",
        "spectra",
        "accuracy",
    )
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the 8x8 digits, two seeds, a few epochs, one ratio."""
    del config
    return {
        "dataset.name": "digits",
        "seeds": (0, 1),
        "pretrain.epochs": 4,
        "retrain_epochs": 6,
        "retrain_lrs": (1e-2, 1e-3),
        "drops": 1,
        "ratios": (0.7,),
        "measure.examples": 50,
        "measure.every": 2,
        "retrain.plateau.window": 2,
        "retrain.plateau.minimum": 4,
        "retrain.plateau.maximum": 8,
        "retrain.plateau.examples": 50,
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """A run per ratio, initial LR and way to end an LR stage."""
    return [
        {
            "label": f"L1 {ratio:g}, LR {lr:g}, {extend or 'fixed'}",
            "sparsify.ratio": ratio,
            "retrain.epochs": config.retrain_epochs,
            "retrain.schedule": str(halving(config.retrain_epochs, lr, lr / 10**config.drops)),
            "retrain.extend": extend,
        }
        for ratio in config.ratios
        for lr in config.retrain_lrs
        for extend in ("", "plateau")
    ]
