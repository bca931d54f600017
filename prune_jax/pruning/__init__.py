"""Pruning transforms: pure functions on params pytrees."""
