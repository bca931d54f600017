"""The configuration that every file in ``configs/`` starts from, each key with its meaning."""

from ml_collections import ConfigDict, FieldReference


def default_config() -> ConfigDict:
    """All keys of an experiment with neutral values; a config file changes what its experiment is about."""
    config = ConfigDict()
    config.experiment = "unnamed"  # the workdir is bound to this name
    config.label = ""  # one run's name in the report. A sweep sets it
    config.regime = ""  # the comparison regime that a run of a sweep belongs to, for the report
    config.row = ""  # the label of the paper's row that a run stands for. A sweep sets it
    config.tables = ()  # the paper's tables that such a row is printed in: 4 for Table 4
    # 'prune': pretrain, sparsify, retrain; 'prune_at_init': the same from random weights, without pretraining;
    # 'scratch': the small dense network alone; 'gradual': pretrain, gradual, retrain; 'sparse_scratch': that stage.
    config.pipeline = "prune"
    config.seeds = (0, 1, 2)  # each runs the whole chain
    config.quick = False  # the config file's small values, for a look in a minute or a test
    config.long = False  # the config file's larger grid
    config.dataset = ConfigDict(
        {
            "name": "mnist5k",  # or a function of your own, 'module:function' (see own/parts.py)
            "split_seed": 0,  # which images packaged sets hold out for testing, and which `train_examples` takes
            # Where data sets are: four IDX files, or what TFDS prepares. Empty: Debian's folder for Fashion-MNIST,
            # then TFDS's own (TFDS_DATA_DIR or ~/tensorflow_datasets).
            "data_dir": "",
            "train_examples": 0,  # so many of the training split, in its proportions of classes. 0: all
            # Whether images are read while training: 'auto' streams what takes more than `fits_gib` of memory
            # and images that vary in size; or 'True', 'False'.
            "stream": "auto",
            "fits_gib": 8.0,
            # Processes that read and decode ahead of a stream, on which no number depends: so many, 0 for a thread
            # of this process; or, chosen, one for every CPU that this process may use but one, from the least to
            # the most here, and the least where there are two CPUs.
            "workers": _any_type((0, 16)),
            # Images that vary in size, ImageNet's: in training a box of `scale` times the image's area and an
            # aspect in `ratio` becomes `size` x `size`. In evaluation the shorter side becomes `resize`, then the
            # centre `size` x `size` is cut.
            "size": 224,
            "scale": (0.08, 1.0),
            "ratio": (3 / 4, 4 / 3),
            "resize": 256,
            # imagenet100: a file of the ids of its classes, one a line. Else they are drawn with this seed.
            "classes_file": "",
            "classes_seed": 0,
            # What dataset.name='synthetic' holds: random images, to measure a training step without its input.
            "synthetic": {"shape": (224, 224, 3), "classes": 1000, "examples": 1024},
            "window": 128,  # bytes of a text ('stdlib_text', or 'text_folder' under `data_dir`) that are one example
            "mean": (),  # per channel, of images in 0..1; empty: the usual ones, for arrays of your own 0 and 1
            "std": (),
            "crop_pad": 0,  # pixels of padding before a random crop; 0: no crop
            "flip": False,  # random flips from left to right in training
        }
    )
    # A network of the catalog, or 'module:function' (see own/network.py). The options are its further arguments.
    config.model = ConfigDict({"name": "mlp7_linear", "options": ConfigDict()})
    # Every further key is an argument of the optimiser, in a config file: config.optimizer.b1 = 0.95.
    config.optimizer = ConfigDict(
        {
            "name": "sgd",  # or any optimiser of optax ('adamw', 'lion', ...), or 'module:function'
            "batch_size": 100,  # examples of a step
            # None: the optimiser's own default. For 'sgd' 0.9 and 0.0, decay being added before momentum as in
            # PyTorch. A value goes to an optimiser that takes such an argument. One that doesn't refuses all but 0.
            "momentum": _any_type(None),
            "weight_decay": _any_type(None),
            "accumulate": 1,  # microbatches that a batch is taken in, one after another, where it is too large
            "clip_norm": 0.0,  # the gradient's largest global norm. 0: as it is
            "label_smoothing": 0.0,  # the share of a label that is spread evenly over all classes
            "ema": 0.0,  # decay of a running mean of the weights, which is measured and kept in their place. 0: off
            # Arguments again, where no key can be added: --config.optimizer.arguments="{'b1': 0.95}", or a sweep.
            "arguments": _any_type({}),
        }
    )
    config.precision = "float32"  # or 'bfloat16': of a training step. What is measured is so in float32
    config.remat = "none"  # or 'elementwise': norms and activations are computed twice, which saves memory
    # A .safetensors (or, with torch, .pth) state dict of torchvision or timm: the base model, not pretrained.
    config.base = ConfigDict({"checkpoint": ""})
    config.pretrain = ConfigDict({"epochs": 30, "schedule": "0:1e-2"})
    # Before each sparsify: training under a penalty that pushes the network towards the cut (docs/regularizers.md).
    config.regularise = ConfigDict(
        {
            # 'greg1', 'greg2', 'group_lasso', 'group_lasso_proximal', 'group_norm', 'slimming', 'tpp',
            # 'kernel_orthogonality', 'orthogonal_convolution', or 'module:function' (see own/regularizer.py); '': none.
            # Layers and ratios are those of `sparsify`.
            "name": "",
            "epochs": 10,  # its budget, dense epochs
            "schedule": "0:1e-3",
            "stop": True,  # whether its own rule may end it before the budget does
            # Its numbers; None: as published. One that the regulariser doesn't have is refused.
            "strength": _any_type(None),  # what the penalty is multiplied by; of 'tpp' its decorrelation
            "step": _any_type(None),  # by how much a growing strength rises
            "every": _any_type(None),  # steps between two rises
            "limit": _any_type(None),  # the strength at which growth ends
            "ratio_limit": _any_type(None),  # GReg: kept over pushed magnitude, at which growth ends
            "hold": _any_type(None),  # steps that it is held for after growth
            "pick_step": _any_type(None),  # 'greg2': by how much the strength of all channels rises
            "pick_limit": _any_type(None),  # 'greg2': the strength at which the channels to go are picked
            "recover": _any_type(None),  # 'greg2': the strength of kept channels after that
            "alpha": _any_type(None),  # 'group_norm': how many times as fast the weakest channel decays
            "over": _any_type(None),  # 'producer' or 'coupled', as in `sparsify`
            "arguments": _any_type({}),  # further ones, such as those of your own
        }
    )
    config.sparsify = ConfigDict(
        {
            "criterion": "l1",  # or 'module:function' (see config/own_criterion.py)
            # 'filter': channels are cut, 'head': those alone that are attention heads. 'unstructured': single weights
            # are masked, 'block': blocks of them, and '2:4', or any N:M: all but N of each M along a kernel's inputs.
            "granularity": "filter",
            "block": (4, 4),  # inputs and outputs of a block, at one position of a convolution's window
            "pad": False,  # whether the last M, or a block at the edge, may be smaller where a kernel doesn't fit
            # How much each layer loses. 'uniform': `ratio` of each; 'stages': `stage_ratios`; 'global': the lowest
            # `ratio` of all together; 'isomorphic': of all groups that are built alike, each kind by itself; 'speedup':
            # the smallest ratio that reaches `speedup` (dense MACs over small); 'sensitivity': `speedup` again, each
            # group losing so much that, alone, all raise the loss equally; 'erk': `ratio` of all masked weights
            # together, small kernels losing less.
            "allocation": "uniform",
            "ratio": 0.5,  # the fraction removed of every group that `layers` names
            "stage_ratios": (),  # one per stage of the network (stem, stages, head); given, they mean 'stages'
            "speedup": 2.0,  # dense MACs over small, for 'speedup' and 'sensitivity'
            # 'layer': one ratio for all layers reaches it; 'global' and 'isomorphic': such a ranking does
            "speedup_scope": "layer",
            # Of 'sensitivity': the ratios at which each group alone is measured, over so many training examples.
            "sensitivity": {
                "ratios": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
                "batches": 10,
                "batch_size": 0,  # 0: the optimiser's
            },
            "at_least": 0.0,  # the fraction of each layer that a global or isomorphic ranking leaves
            # Scores of such a ranking over their layer's 'mean', 'max' or 'norm', 'standardise', 'lamp', or 'none'.
            # Empty: 'mean' for channels, 'none' for single weights, as papers on each do.
            "normalise": "",
            # A channel's score is of the weights that make it, 'producer', or of all kernels that make or read it,
            # 'coupled'. Then `reduce` makes one of several: 'mean', 'sum', 'max', 'product' or 'first'.
            "over": "producer",
            "reduce": "mean",
            # So many times what is left is scored anew, in memory, a smaller part of it each time. SynFlow takes 100.
            "iterations": 1,
            "round_to": 1,  # kept channels are rounded up to a multiple of it
            "layers": (),  # glob patterns over group names. Empty: what the paper prunes in this network
            # Prune and retrain in turn, so many times. Ratios and speedups are always of the dense network: 'linear'
            # and 'geometric' steps to the last one, or 'one-shot', all in the first round (as much training, no steps).
            "rounds": 1,
            "rounds_schedule": "linear",
            # Training examples, without augmentation, for criteria that need gradients or activations.
            "evidence": {"batches": 10, "batch_size": 0},  # 0: the optimiser's
            # Whether weights are changed that a criterion changes besides choosing ('flap', 'thinet', 'channel_lasso',
            # 'sparsegpt'); False is the control.
            "compensate": True,
            # Or 'orthp'; 'recalibrate': statistics of batch norm anew, over training batches; 'reinit': the control,
            # the same small network at random weights, nothing inherited; 'rescale': another control, each kernel times
            # one number, so that its singular values have the same mean square as those that 'orthp' gives.
            "recovery": "none",
            "recovery_gain": 1.0,  # of 'orthp' and 'rescale', the gain of the activation: 1 for linear, sqrt 2 for ReLU
            "recalibration": {"batches": 10, "batch_size": 0},  # 0: the optimiser's
        }
    )
    config.retrain = ConfigDict(
        {
            "epochs": 30,
            # Of the pretraining's: 'rewind', its last epochs, as many as these; 'clr', from its lowest LR up to its
            # highest in the first tenth and down along half a cosine, or 'clr(LOWEST,HIGHEST,SHARE)'.
            "schedule": "0:1e-2",
            # The teacher's share of the loss; 0: none. The labels have the rest. Both outputs are softened by
            # `temperature`. The teacher is the base model of the chain, or a file as `base.checkpoint` takes it.
            "distill": {"weight": 0.0, "temperature": 4.0, "teacher": ""},
            "extend": "",  # or 'plateau': each LR stage lasts until training loss and mean JSV stand still
            "plateau": ConfigDict(
                {
                    "window": 10,  # epochs that are averaged and held against those before
                    "loss": 0.02,  # nats by which the mean training loss of a window may differ
                    "jsv": 0.05,  # fraction by which its mean JSV may differ
                    "minimum": 20,  # epochs of an LR phase, at least
                    "maximum": 300,  # and at most
                    "examples": 200,  # training examples whose mean JSV is watched
                }
            ),
        }
    )
    # After each sparsify: the epoch of pretraining whose weights come back, 0 for initialisation. None: no rewinding.
    config.rewind = ConfigDict({"to": _any_type(None)})
    # Between two rounds: 0 and '' are as in `retrain`.
    config.retrain_between = ConfigDict({"epochs": 0, "schedule": ""})
    # The rule under which a mask changes in training, in the stages 'gradual' and 'sparse_scratch'; see
    # docs/sparse_training.md. None: the rule's own default. Every further key is an argument of the rule.
    config.mask_rule = ConfigDict(
        {
            # 'gmp', 'sfp' and 'iht' prune a dense network; 'static', 'set' and 'rigl' begin sparse, as do 'ste' and
            # 'sr_ste', whose granularity is N:M; or a function of your own, 'module:function'.
            "name": "gmp",
            "layers": (),  # glob patterns over layer names; empty: what the paper prunes in this network
            "ratio": _any_type(0.9),  # the fraction removed; None for rules of N:M, whose pattern says it
            "granularity": _any_type(None),  # 'unstructured', 'filter' or N:M
            "distribution": _any_type(None),  # 'uniform': `ratio` of each layer; 'erk': of all together
            "interval": _any_type(None),  # steps from one change of the mask to the next; 0: an epoch
            "end": _any_type(None),  # the fraction of training after which the mask stays
            "arguments": _any_type({}),  # further ones, where no key can be added
        }
    )
    config.gradual = ConfigDict({"epochs": 30, "schedule": "0:1e-2"})
    config.sparse_scratch = ConfigDict({"epochs": 60, "schedule": "0:1e-2"})
    # Instead of `pipeline` and rounds: a list of stages, each with keys of its section that differ, such as
    # ({"stage": "pretrain"}, {"stage": "sparsify", "ratio": 0.5}, {"stage": "retrain", "epochs": 5}).
    config.chain = ()
    # Of the pipeline 'scratch': how long the small network trains, and its LRs.
    config.scratch = ConfigDict({"epochs": 60, "schedule": "0:1e-2"})
    config.measure = ConfigDict(
        {
            # False; True or 'mean': the mean Jacobian singular value; 'spectrum': its distribution as well
            "jsv": _any_type(False),
            "every": _any_type(1),  # 'epoch', or after every n-th epoch
            "examples": 0,  # test examples. 0: the first 512, or all of a data set that has fewer
            "budget": 0,  # 0: exact. Else the pull-backs, over all examples, that an estimate of the mean may take
        }
    )
    # together: 'run', one program trains the seeds of a run; 'sweep': of all runs that differ in the LR alone
    config.execution = ConfigDict({"epoch": "auto", "replicas": "auto", "together": "run"})
    # Devices that seeds under vmap are spread over, that a batch is split over (0: chosen, see devices/mesh.py),
    # and that share every parameter (FSDP). No part of a stage's id.
    config.mesh = ConfigDict({"replicas": 0, "data": 0, "fsdp": 1})
    config.checkpoint_seconds = 30.0  # seconds between two checkpoints of an unfinished stage
    config.checkpoint = ConfigDict({"keep": 1})  # how many of them are kept
    # With --distributed: seconds until processes that don't meet give up, and until one that is silent is lost.
    config.distributed = ConfigDict({"initialization_timeout": 300, "heartbeat_timeout": 100})
    config.tensorboard = True  # event files beside the metrics in JSON lines
    # Jobs that --launcher submits, one node each. What is empty or 0 is left to the cluster.
    config.cluster = ConfigDict(
        {
            "shards": 8,  # jobs. A sweep of fewer runs makes as many as it has runs
            "minutes": 60,  # until a job is stopped. Its run saves its state and is queued again
            "requeues": 20,  # how often that may happen; being preempted doesn't count
            "gpus": 0,  # of each job
            "cpus": 0,  # of each job
            "memory_gb": 0,  # of each job
            "partition": "",  # Slurm's names: where jobs queue,
            "account": "",  # who pays,
            "qos": "",  # with which quality of service,
            "constraint": "",  # on which nodes
            "at_once": 0,  # jobs of the array that run at the same time
        }
    )
    # The report's heading, a text below it, its sections (prune_jax.report.SECTIONS), and whether report.html is made.
    config.report = ConfigDict({"title": "", "text": "", "sections": ("accuracy",), "interactive": True})
    return config


def _any_type(value: object) -> FieldReference:
    """A key whose value may change its type; ml_collections holds the others to the type that they begin with."""
    return FieldReference(value, field_type=object)
