"""Traced functions re-evaluated at the sizes that a keep leaves."""
