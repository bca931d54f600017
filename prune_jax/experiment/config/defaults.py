"""The configuration that every file in ``configs/`` starts from. Its sections stand in ``keys/``."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys import data, pruning, regularise, running, training


def default_config() -> ConfigDict:
    """All keys of an experiment with neutral values. A config file changes what its experiment is about."""
    config = ConfigDict()
    # The experiment's name. A workdir holds the runs of one experiment.
    config.experiment = "unnamed"
    # One run's name in the report. A sweep sets it. Empty: `experiment`.
    config.label = ""
    # The comparison regime of a run, for the report. A sweep sets it.
    config.regime = ""
    # The label of the paper's row that a run stands for. A sweep sets it.
    config.row = ""
    # The paper's tables that such a row is printed in: 4 for Table 4.
    config.tables = ()
    # The stages of a run. 'prune': pretrain, sparsify, retrain. 'prune_at_init': random weights, sparsify, retrain.
    # 'gradual': pretrain, gradual, retrain. 'scratch': the small dense network alone, trained from random weights.
    # 'sparse_scratch': a network that is sparse from its random weights on.
    config.pipeline = "prune"
    # Random seeds, whole numbers. Each runs the whole chain of stages.
    config.seeds = (0, 1, 2)
    # Whether to take the config file's small values, for a look in a minute.
    config.quick = False
    # Whether to take the config file's larger grid.
    config.long = False
    config.dataset = data.dataset()
    config.model = data.model()
    config.optimizer = training.optimizer()
    # The numbers of a training step: 'float32' or 'bfloat16'. Measurements are always in float32.
    config.precision = "float32"
    # 'none' or 'elementwise'. 'elementwise' computes norms and activations twice, which saves memory.
    config.remat = "none"
    config.base = training.base()
    config.pretrain = training.pretrain()
    config.regularise = regularise.regularise()
    config.sparsify = pruning.sparsify()
    config.retrain = training.retrain()
    config.rewind = training.rewind()
    config.retrain_between = training.retrain_between()
    config.mask_rule = pruning.mask_rule()
    config.gradual = training.gradual()
    config.sparse_scratch = training.sparse_scratch()
    # The stages themselves, in place of `pipeline` and `rounds`. Each entry names a stage and the keys that differ
    # from its section, such as {"stage": "sparsify", "ratio": 0.5}. Empty: as `pipeline` says.
    config.chain = ()
    config.scratch = training.scratch()
    config.measure = running.measure()
    config.execution = running.execution()
    config.mesh = running.mesh()
    # Seconds between two checkpoints of an unfinished stage.
    config.checkpoint_seconds = 30.0
    config.checkpoint = running.checkpoint()
    config.distributed = running.distributed()
    # Whether curves are also written as event files of TensorBoard.
    config.tensorboard = True
    config.cluster = running.cluster()
    config.report = running.report()
    return config
