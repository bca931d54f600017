"""The commands beside run: cost, groups, spectrum, and a profile of the training step."""
