"""The public name for type checkers and editors; at run time it loads on first use."""

from prune_jax.experiment.running import run as run
