"""Retraining with and without a teacher: under the same schedule (S3.2), and at equal compute (SX-B).

python run.py --config=configs/distillation.py
python run.py --config=configs/distillation.py --config.quick
python run.py --config=configs/distillation.py --config.temperatures="(1.0,2.0,8.0)" --workdir=runs/temperatures

The teacher is the base model. Its forward pass costs compute, so that at equal compute the run without it lasts longer.
The record states distillation: two runs of which one has a teacher are in no setup from S3.2 on.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import equal_compute, recipes


def get_config() -> ConfigDict:
    """ResNet-8 on scikit-learn's digits, filters by L1 norm at three ratios."""
    config = recipes.resnet8_digits("distillation", seeds=5)
    config.ratios = (0.5, 0.7, 0.9)
    config.temperatures = (1.0, 4.0)
    config.weight = 0.9  # of the teacher
    config.epochs = 10  # of a retraining with a teacher, or a few more where computes then agree
    config.lrs = (1e-2, 1e-3, 1e-4)  # for a half, a quarter and a quarter of the epochs
    config.report.title = "Retraining with and without a teacher (ResNet-8)"
    config.report.sections = ("base", "method_ranking", "equal_compute_ranking", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: two seeds, one ratio and temperature, few epochs, an MLP."""
    del config
    small = {
        "model.name": "mlp7_relu",
        "model.options": {},
        "ratios": (0.7,),
        "temperatures": (4.0,),
        "epochs": 2,
    }
    return recipes.few_digits() | small


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Per ratio: with a teacher, without one for as many epochs, and without one at the same compute."""
    runs = []
    for ratio in config.ratios:
        epochs, longer = equal_compute.with_and_without_teacher(config, ratio, config.epochs)
        taught = [(f"teacher at T={t:g}", epochs, config.weight, t) for t in config.temperatures]
        alone = [("no teacher", epochs, 0.0, 1.0), ("no teacher, equal compute", longer, 0.0, 1.0)]
        runs += [_run(config, ratio, *each) for each in (*taught, *alone)]
    return runs


def _run(
    config: ConfigDict, ratio: float, name: str, epochs: int, weight: float, temperature: float
) -> dict[str, Any]:
    return {
        "label": f"{name}, {ratio:g}, {epochs} epochs",
        "sparsify.ratio": ratio,
        "retrain.epochs": epochs,
        "retrain.schedule": equal_compute.decayed(epochs, config.lrs),
        "retrain.distill.weight": weight,
        "retrain.distill.temperature": temperature,
    }
