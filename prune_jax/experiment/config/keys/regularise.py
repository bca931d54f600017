"""The section ``regularise``: training under a penalty before each cut."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys.any_type import any_type


def regularise() -> ConfigDict:
    """Training under a penalty that pushes the network towards the cut.

    Layers and ratios are those of ``sparsify``. Of the numbers None means the published value. A number that the
    regulariser doesn't have is refused. docs/regularizers.md describes the regularisers.
    """
    return ConfigDict(
        {
            # 'greg1', 'greg2', 'group_lasso', 'group_lasso_proximal', 'group_norm', 'slimming', 'tpp',
            # 'kernel_orthogonality', 'orthogonal_convolution', or your own, 'module:function'. Empty: no such stage.
            "name": "",
            # The most epochs of the stage.
            "epochs": 10,
            # Its learning rates, as 'epoch:rate' pairs.
            "schedule": "0:1e-3",
            # Whether the regulariser's own rule may end the stage before its epochs do.
            "stop": True,
            # The factor of the penalty. Of 'tpp' the factor of its decorrelation.
            "strength": any_type(None),
            # By how much a growing strength rises at a time.
            "step": any_type(None),
            # Training steps between two rises.
            "every": any_type(None),
            # The strength at which growth ends.
            "limit": any_type(None),
            # Of 'greg1' and 'greg2': growth ends where kept weights are so many times as large as pushed ones.
            "ratio_limit": any_type(None),
            # Training steps that the strength is held for after its growth.
            "hold": any_type(None),
            # Of 'greg2': by how much the strength of all channels rises at a time.
            "pick_step": any_type(None),
            # Of 'greg2': the strength at which the channels to go are chosen.
            "pick_limit": any_type(None),
            # Of 'greg2': the strength of kept channels after that choice.
            "recover": any_type(None),
            # Of 'group_norm': how many times as fast the weakest channel decays.
            "alpha": any_type(None),
            # The weights of a channel that are pushed: 'producer' or 'coupled', as in `sparsify.over`.
            "over": any_type(None),
            # Further arguments of the regulariser, as a dict, such as those of your own.
            "arguments": any_type({}),
        }
    )
