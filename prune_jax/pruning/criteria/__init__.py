"""Importance of weights and channels: one function each, and one table that names them."""
