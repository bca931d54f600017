"""A chain of stages: computed, restored from disk, and stated in a record."""
