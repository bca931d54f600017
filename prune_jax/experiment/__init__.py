"""Experiments: from a config to a record."""
