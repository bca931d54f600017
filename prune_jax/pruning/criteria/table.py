"""Every criterion by the name that a config gives it. The contract test runs over this table."""

from collections.abc import Mapping
from types import MappingProxyType

from prune_jax.pruning.criteria import (
    activation,
    geometry,
    gradient,
    magnitude,
    norm_scale,
    reconstruction,
    sparsegpt,
)
from prune_jax.pruning.criteria.criterion import Criterion, channel_scores, missing, weight_scores

__all__ = ["CRITERIA", "Criterion", "channel_scores", "missing", "weight_scores"]

_GRADS = frozenset({"grads"})
_INPUTS = frozenset({"inputs"})
_GRAMS = frozenset({"input_grams"})

CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "l1": Criterion(magnitude.l1, "weight"),
        "l2": Criterion(magnitude.l2, "weight", channels=magnitude.l2_of_channels),
        "largest": Criterion(magnitude.largest, "weight"),
        "random": Criterion(
            magnitude.random, "weight", frozenset({"key"}), channels=magnitude.random_of_channels
        ),
        "fpgm": Criterion(geometry.fpgm, "channel", slices=True),
        "bn_scale": Criterion(norm_scale.bn_scale, "channel", unfit=norm_scale.without_norm),
        "lamp": Criterion(magnitude.lamp, "weight", channels=magnitude.lamp_of_channels),
        "taylor": Criterion(gradient.taylor, "weight", _GRADS, gradient.taylor_of_channels),
        "taylor_gate": Criterion(norm_scale.taylor_gate, "channel", _GRADS, unfit=norm_scale.without_gate),
        "fisher": Criterion(gradient.fisher, "weight", frozenset({"fisher"}), gradient.fisher_of_channels),
        "hessian": Criterion(
            gradient.hessian, "weight", frozenset({"hessian_products"}), gradient.hessian_of_channels
        ),
        "snip": Criterion(gradient.snip, "weight", _GRADS, gradient.snip_of_channels),
        "grasp": Criterion(
            gradient.grasp, "weight", frozenset({"hessian_gradient"}), gradient.grasp_of_channels
        ),
        "synflow": Criterion(
            gradient.synflow, "weight", frozenset({"synflow"}), gradient.synflow_of_channels
        ),
        "activation": Criterion(activation.activation, "channel", frozenset({"example_activations"})),
        "mean_activation": Criterion(activation.mean_activation, "channel", frozenset({"activations"})),
        "hrank": Criterion(activation.hrank, "channel", frozenset({"map_ranks"})),
        "wanda": Criterion(activation.wanda, "weight", _INPUTS, activation.wanda_of_channels, whole=True),
        "ria": Criterion(activation.ria, "weight", _INPUTS, weights_only=True),
        "flap": Criterion(activation.flap, "channel", _INPUTS, compensate=activation.add_mean_outputs),
        "thinet": Criterion(reconstruction.thinet, "channel", _GRAMS, compensate=reconstruction.scale_inputs),
        "channel_lasso": Criterion(
            reconstruction.channel_lasso, "channel", _GRAMS, compensate=reconstruction.solve_weights
        ),
        "sparsegpt": Criterion(
            sparsegpt.sparsegpt, "weight", _GRAMS, compensate=sparsegpt.update_remaining, weights_only=True
        ),
    }
)
