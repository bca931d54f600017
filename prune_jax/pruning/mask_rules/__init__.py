"""Mask rules: masks that change while a network trains, inside the compiled step (see docs/sparse_training.md)."""
