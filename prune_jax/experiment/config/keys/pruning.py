"""The sections of pruning: ``sparsify``, and ``mask_rule`` for masks that change while a network trains."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys.any_type import any_type


def sparsify() -> ConfigDict:
    """The sparsifying action: which weights go, how many of them, and what is done to those that stay."""
    return ConfigDict(
        {
            # Which weights are important. A name of the table in docs/methods.md, or your own, 'module:name'.
            # Of granularity 'depth': 'block_influence', 1 - cos(input, output) of a block; 'skipping_loss', the loss
            # without it; or a control, 'random' or 'last'.
            "criterion": "l1",
            # The units that go. 'filter': channels, which are cut. 'head': attention heads, which are cut.
            # 'depth': whole blocks that are built alike, which are removed.
            # 'unstructured': single weights, which are masked. 'block': blocks of weights, which are masked.
            # '2:4', or any N:M: of each M weights along a kernel's inputs all but N are masked.
            "granularity": "filter",
            # Of 'block': inputs and outputs of a block. A convolution has blocks at each position of its window.
            "block": (4, 4),
            # Of 'block' and N:M: whether the last block, or the last M weights, may be smaller.
            # False: a kernel that they don't divide is refused.
            "pad": False,
            # How much each layer loses.
            # 'uniform': `ratio` of each. 'stages': `stage_ratios`.
            # 'global': the lowest scores of all layers together, `ratio` of their units.
            # 'isomorphic': the same, among layers that are built alike.
            # 'speedup': the smallest ratio that reaches `speedup`.
            # 'sensitivity': as much as `speedup` needs. Cutting any one layer alone raises the loss equally.
            # 'erk': `ratio` of all masked weights together. Small kernels lose a smaller part.
            "allocation": "uniform",
            # The pruning ratio: the fraction removed of the layers that `layers` names.
            "ratio": 0.5,
            # One pruning ratio for each block stage of the network: stem, block stages, head.
            # Where it is given, it means allocation 'stages'.
            "stage_ratios": (),
            # MACs of the dense network over MACs of the small one. For the allocations 'speedup' and 'sensitivity'.
            "speedup": 2.0,
            # Of 'speedup': what reaches it. 'layer': one ratio for all layers. 'global', 'isomorphic': such a ranking.
            "speedup_scope": "layer",
            # Of 'sensitivity': how the loss of each layer's cut is measured.
            "sensitivity": {
                # The pruning ratios at which each layer is cut alone.
                "ratios": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
                # Batches of training examples that the loss is measured on.
                "batches": 10,
                # Examples of such a batch. 0: as `optimizer.batch_size`.
                "batch_size": 0,
            },
            # The fraction of each layer that a global or isomorphic ranking always keeps.
            "at_least": 0.0,
            # How scores of different layers are made comparable in a ranking.
            # 'mean', 'max', 'norm': divided by that of their layer. 'standardise': less the mean, over the deviation.
            # 'lamp': over the sum of those that are as large or larger. 'none': as they are.
            # Empty: 'mean' for channels, 'none' for single weights.
            "normalise": "",
            # The weights that a channel's score comes from. 'producer': those that make the channel.
            # 'coupled': all kernels that make it or read it.
            "over": "producer",
            # Of 'coupled': how the scores of several kernels become one. 'mean', 'sum', 'max', 'product' or 'first'.
            "reduce": "mean",
            # Times that what is left is scored anew within one cut. Each takes a part of it. SynFlow takes 100.
            "iterations": 1,
            # Whether layer goes after layer, in the order in which data pass through them. Each is then judged by what
            # the pruned layers before it make of the examples. False: all are judged by the network as it was.
            "in_turn": False,
            # The number of channels that stay is rounded up to a multiple of it.
            "round_to": 1,
            # The layers that are pruned: names of groups, '*' stands for any part of a name.
            # Empty: what the paper prunes in this network. Of 'depth': the path of the blocks.
            "layers": (),
            # Times that the network is pruned and retrained in turn.
            "rounds": 1,
            # How ratios grow over the rounds: 'linear' or 'geometric'. They are always of the dense network.
            # 'one-shot': all goes in the first round. It is the control: as much training, no steps.
            "rounds_schedule": "linear",
            # Training examples, without augmentation, for criteria that need gradients or activations.
            "evidence": {
                # Batches of them.
                "batches": 10,
                # Examples of such a batch. 0: as `optimizer.batch_size`.
                "batch_size": 0,
            },
            # Whether the weights that stay are changed, by the criteria that can: 'flap', 'thinet', 'channel_lasso',
            # 'sparsegpt'. False is the control.
            "compensate": True,
            # What is done after the cut. 'none'. 'orthp': small kernels become orthogonal.
            # 'recalibrate': batch norm's statistics are taken anew, over training batches.
            # 'reinit', a control: the small network gets random weights and inherits nothing.
            # 'rescale', a control: each kernel is multiplied by one number.
            # Then the mean square of its singular values is that of 'orthp'.
            "recovery": "none",
            # Of 'orthp' and 'rescale': the gain of the activation. 1 for linear networks, the root of 2 for ReLU.
            "recovery_gain": 1.0,
            # Of 'recalibrate': training examples.
            "recalibration": {
                # Batches of them.
                "batches": 10,
                # Examples of such a batch. 0: as `optimizer.batch_size`.
                "batch_size": 0,
            },
        }
    )


def mask_rule() -> ConfigDict:
    """How a mask changes in the stages 'gradual' and 'sparse_scratch'. Each further key is an argument of the rule.

    docs/sparse_training.md describes the rules.
    """
    return ConfigDict(
        {
            # 'gmp', 'sfp' and 'iht' prune a dense network. 'static', 'set' and 'rigl' begin sparse.
            # 'ste' and 'sr_ste' begin sparse too, with granularity N:M. Or a function of your own, 'module:function'.
            "name": "gmp",
            # The layers that are masked, '*' stands for any part of a name. Empty: what the paper prunes.
            "layers": (),
            # The pruning ratio: the fraction of weights that is masked. None: the rule's default.
            # Rules of N:M need None, as their pattern says it.
            "ratio": any_type(0.9),
            # 'unstructured', 'filter' or N:M. None: the rule's default.
            "granularity": any_type(None),
            # 'uniform': `ratio` of each layer. 'erk': `ratio` of all together, small kernels lose a smaller part.
            # None: the rule's default.
            "distribution": any_type(None),
            # Steps from one change of the mask to the next. 0: an epoch. None: the rule's default.
            "interval": any_type(None),
            # The fraction of training after which the mask stays as it is. None: the rule's default.
            "end": any_type(None),
            # Further arguments of the rule, as a dict. For the command line and sweeps, which can't add keys.
            "arguments": any_type({}),
        }
    )
