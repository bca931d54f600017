"""Trainability: Jacobian singular values and trainability accuracy."""
