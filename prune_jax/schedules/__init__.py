"""Learning rate (LR) schedules: the text of the paper <-> ``LRSchedule`` <-> optax. Epochs count from 0."""

from prune_jax.schedules.after_pretraining import is_recipe, retraining, rewound
from prune_jax.schedules.pieces import Piece
from prune_jax.schedules.printed import canonical
from prune_jax.schedules.recipes import cosine, cyclic_restart, halving, linear, warm_up
from prune_jax.schedules.resizing import half_up, resize
from prune_jax.schedules.schedule import LRSchedule, compose

__all__ = [
    "LRSchedule",
    "Piece",
    "canonical",
    "compose",
    "cosine",
    "cyclic_restart",
    "half_up",
    "halving",
    "is_recipe",
    "linear",
    "resize",
    "retraining",
    "rewound",
    "warm_up",
]
