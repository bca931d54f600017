"""Fairness: what a run must state, and which comparison setups hold between two runs. No JAX here."""
