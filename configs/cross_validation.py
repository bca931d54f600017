r"""Cross-validating finetuning setups (§3.2): does a method win, or the retraining that came with it?

python run.py --config=configs/cross_validation.py                  (ResNet56 on CIFAR10)
python run.py --config=configs/cross_validation.py --config.quick   (digits, MLP-7, every epoch count / 20)
python run.py --config=configs/cross_validation.py --config.dataset.name=mnist5k \
    --config.model.name=resnet8 --config.shorten=10 --workdir=runs/cross_validation_mnist5k
python run.py --config=configs/cross_validation.py --config.b.criterion=random --config.b.recovery=none

Two methods, each with the retraining it was published with: A + FT_A and B + FT_B are what papers compare.
The sweep adds B + FT_A and A + FT_B, and the report decides.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.protocols import recipes, shortening


def get_config() -> ConfigDict:
    """A: L1-norm with the larger retraining LR of Table 6; B: L1-norm, then OrthP, with the smaller one."""
    config = recipes.cifar("cross_validation", "cifar10", "resnet56", batch_size=128)
    config.dense = recipes.plan_of(200, "0:1e-1,100:1e-2,150:1e-3")
    config.sparsify.ratio = 0.9
    config.sparsify.recovery_gain = 2**0.5  # of ReLU
    config.a = _method("l1", "none", "0:1e-2,60:1e-3,90:1e-4", 120)
    config.b = _method("l1", "orthp", "0:1e-3,60:1e-4", 120)
    config.report.title = "Cross-validating the retraining of two methods"
    config.report.sections = ("cross_validation", "base", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the same four runs."""
    del config
    return recipes.toy(shorten=20) | {"sparsify.ratio": 0.5}


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Four runs: each method under each method's retraining."""
    by = shortening.divisor(config)
    pretrain = shortening.schedule(config, "dense", by)
    runs = []
    for ft in ("a", "b"):
        retrain = shortening.schedule(config, ft, by)
        for method in ("a", "b"):
            runs.append(
                {
                    "label": f"{method.upper()} ({_name(config[method])}) + FT_{ft.upper()}",
                    "row": f"{method.upper()} + FT_{ft.upper()}",
                    "sparsify.criterion": config[method].criterion,
                    "sparsify.recovery": config[method].recovery,
                    "pretrain.epochs": pretrain.epochs,
                    "pretrain.schedule": str(pretrain),
                    "retrain.epochs": retrain.epochs,
                    "retrain.schedule": str(retrain),
                }
            )
    return runs


def _method(criterion: str, recovery: str, schedule: str, epochs: int) -> ConfigDict:
    """A pruning method and the retraining that it comes with."""
    return ConfigDict(
        {
            "criterion": criterion,
            "recovery": recovery,
            "schedule": schedule,
            "epochs": epochs,
        }
    )


def _name(method: ConfigDict) -> str:
    """Criterion and recovery, as records name a method."""
    return method.criterion if method.recovery == "none" else f"{method.criterion}+{method.recovery}"
