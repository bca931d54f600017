"""Masks of single weights, of blocks and of N of M: which units a kernel has, and which of them go."""
