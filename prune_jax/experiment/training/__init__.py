"""A stage of training: the step, the epoch, its data, its learning rates, what is measured."""
