"""The sections of training: the optimiser, and how long and at which learning rates each stage trains.

A schedule is a text of epochs and learning rates: '0:1e-2,30:1e-3' is 0.01 from epoch 0 and 0.001 from epoch 30.
"""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys.any_type import any_type


def optimizer() -> ConfigDict:
    """The optimiser of every stage. Each further key is one of its arguments: ``config.optimizer.b1 = 0.95``."""
    return ConfigDict(
        {
            # 'sgd', any other optimiser of optax such as 'adamw', or a function of your own, 'module:function'.
            "name": "sgd",
            # Examples of a training step.
            "batch_size": 100,
            # The optimiser's momentum. None: its default, of 'sgd' 0.9.
            # An optimiser that takes no momentum refuses every value but 0.
            "momentum": any_type(None),
            # The optimiser's weight decay. None: its default, of 'sgd' 0.0.
            # 'sgd' adds it to the gradient before momentum, as PyTorch does.
            # An optimiser that takes no weight decay refuses every value but 0.
            "weight_decay": any_type(None),
            # Parts that a batch is computed in, one after another. More than 1 saves memory.
            "accumulate": 1,
            # The largest norm of the whole gradient. A longer one is scaled down to it. 0: no limit.
            "clip_norm": 0.0,
            # The fraction of each label that is spread evenly over all classes.
            "label_smoothing": 0.0,
            # The decay of a running mean of the weights. Where it is on, the mean is measured and kept. 0: off.
            "ema": 0.0,
            # Further arguments of the optimiser, as a dict. For the command line and sweeps, which can't add keys:
            # --config.optimizer.arguments="{'b1': 0.95}".
            "arguments": any_type({}),
        }
    )


def base() -> ConfigDict:
    """A base model that is read from a file."""
    return ConfigDict(
        {
            # A state dict of torchvision or timm, .safetensors or (with PyTorch installed) .pth.
            # It takes the place of pretraining. Empty: the base model is pretrained.
            "checkpoint": ""
        }
    )


def pretrain() -> ConfigDict:
    """Training of the dense network before the cut."""
    return ConfigDict(
        {
            # Epochs of pretraining.
            "epochs": 30,
            # Its learning rates, as 'epoch:rate' pairs.
            "schedule": "0:1e-2",
        }
    )


def retrain() -> ConfigDict:
    """Training of the pruned network after the last cut."""
    return ConfigDict(
        {
            # Epochs of retraining.
            "epochs": 30,
            # Its learning rates, as 'epoch:rate' pairs, or made from the pretraining's.
            # 'rewind': those of pretraining's last epochs, as many as `epochs`.
            # 'clr': from pretraining's lowest rate up to its highest in the first tenth, then down half a cosine.
            # 'clr(LOWEST,HIGHEST,SHARE)': the same with your own rates and share of the epochs that go up.
            "schedule": "0:1e-2",
            # Learning from a teacher's outputs.
            "distill": {
                # The teacher's share of the loss, from 0 to 1. The labels have the rest. 0: no teacher.
                "weight": 0.0,
                # Both networks' outputs are divided by it before the softmax. Above 0.
                "temperature": 4.0,
                # A file as `base.checkpoint` takes it. Empty: the base model of the chain.
                "teacher": "",
            },
            # '': the schedule's epochs. 'plateau': each LR phase lasts until training loss and mean JSV stand still.
            "extend": "",
            # When training loss and mean JSV stand still.
            "plateau": ConfigDict(
                {
                    # Epochs whose means are compared with those of as many epochs before.
                    "window": 10,
                    # The most, in nats, by which the mean training loss may differ.
                    "loss": 0.02,
                    # The most, as a fraction, by which the mean JSV may differ.
                    "jsv": 0.05,
                    # The least epochs of an LR phase.
                    "minimum": 20,
                    # The most epochs of an LR phase.
                    "maximum": 300,
                    # Training examples whose mean JSV is watched.
                    "examples": 200,
                }
            ),
        }
    )


def rewind() -> ConfigDict:
    """Weights of an earlier epoch after each cut."""
    return ConfigDict(
        {
            # The epoch of pretraining whose values the remaining weights get back. 0: their initial values.
            # None: no rewinding.
            "to": any_type(None)
        }
    )


def retrain_between() -> ConfigDict:
    """Training between two rounds of pruning."""
    return ConfigDict(
        {
            # Epochs between two rounds. 0: as many as `retrain.epochs`.
            "epochs": 0,
            # Learning rates between two rounds. Empty: those of `retrain.schedule`.
            "schedule": "",
        }
    )


def gradual() -> ConfigDict:
    """Training while a mask rule prunes the network (``config.mask_rule``)."""
    return ConfigDict(
        {
            # Epochs of the stage 'gradual'.
            "epochs": 30,
            # Its learning rates, as 'epoch:rate' pairs.
            "schedule": "0:1e-2",
        }
    )


def sparse_scratch() -> ConfigDict:
    """Training from random weights under a mask rule that begins sparse (``config.mask_rule``)."""
    return ConfigDict(
        {
            # Epochs of the stage 'sparse_scratch'.
            "epochs": 60,
            # Its learning rates, as 'epoch:rate' pairs.
            "schedule": "0:1e-2",
        }
    )


def scratch() -> ConfigDict:
    """Training of the small dense network from random weights, the pipeline 'scratch'."""
    return ConfigDict(
        {
            # Epochs of scratch training.
            "epochs": 60,
            # Its learning rates, as 'epoch:rate' pairs.
            "schedule": "0:1e-2",
        }
    )
