"""Mystery 2, the value of pruning: pruned against scratch under the paper's three regimes (Table 4).

python run.py --config=configs/mystery2_convnet.py
python run.py --config=configs/mystery2_convnet.py --config.quick
python run.py --config=configs/mystery2_convnet.py --config.model.name=resnet8 --workdir=runs/mystery2_resnet8

Measured (2 CPU cores shared with other work, 35 minutes; jax 0.10.2, seeds 0, 1, 2): scratch reaches 96.5, 96.7,
95.5 and 92.3 % at ratios 0.3, 0.5, 0.7 and 0.9. On this small task pruning is ahead of it nowhere with p < 0.05: the
best run of SX-A is +0.8, +0.5, -0.1, -0.8 points away, SX-B +0.6, +0.1, -0.8, -0.2, and under the same overall schedule
pruning falls behind from 0.7 on (-2.2 and, with seeds stuck at chance, -29 points), later pruning epochs more than
earlier ones. Its records: results/mystery2_convnet. Not measured on an accelerator.
"""

from typing import Any

from ml_collections import ConfigDict

from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.protocols import recipes, speedups, table4


def get_config() -> ConfigDict:
    """LeNet-5 on 4,000 MNIST images at four ratios, each of Table 4's epoch counts divided by five."""
    config = default_config()
    config.experiment = "mystery2_convnet"
    config.model.name = "lenet5"
    config.optimizer.weight_decay = 5e-4
    config.ratios = (0.3, 0.5, 0.7, 0.9)
    config.shorten = 5.0  # divides the paper's epochs: 120 become 24
    config.overall = recipes.plan_of(120, "0:5e-2,30:5e-3,60:5e-4,90:5e-5,105:5e-6")  # scratch's
    config.final_lr = 5e-6
    config.longest_stage = 30
    config.same_schedule = (30, 60, 90)  # pruning epochs on scratch's own schedule
    config.same_epochs = ((30, 5e-2), (60, 5e-3))  # SX-A: pruning epoch, retraining LR
    config.same_compute = ((90, 5e-2),)  # SX-B: retraining epochs, retraining LR; dense epochs by the speedup
    config.report.title = "Mystery 2: the value of pruning (LeNet-5)"
    config.report.sections = ("pruned_vs_scratch", "pruning_value", "accuracy")
    return config


def quick(config: ConfigDict) -> dict[str, Any]:
    """Small values for --config.quick: the 8x8 digits, ResNet-8, two seeds, two ratios, eight epochs."""
    del config
    return {
        "dataset.name": "digits",
        "model.name": "resnet8",
        "seeds": (0, 1),
        "ratios": (0.5, 0.9),
        "shorten": 15.0,
        "same_schedule": (30,),
        "same_epochs": ((30, 5e-2),),
    }


def sweep(config: ConfigDict) -> list[dict[str, Any]]:
    """Per ratio: scratch, pruning along scratch's schedule, SX-A and SX-B."""
    protocol, spec = table4.protocol_of(config), speedups.spec_of(config)
    runs = []
    for ratio in config.ratios:
        k = speedups.speedup(spec, tuple(config.sparsify.layers), ratio)
        rows = [
            table4.scratch(protocol),
            *(table4.same_overall_schedule(protocol, epoch) for epoch in config.same_schedule),
            *(table4.same_epochs(protocol, epoch, lr) for epoch, lr in config.same_epochs),
            *(table4.same_compute(protocol, epochs, lr, k) for epochs, lr in config.same_compute),
        ]
        runs += [table4.overrides(row, ratio, config.shorten) for row in rows]
    return runs
