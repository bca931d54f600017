"""Data sets: packaged ones and TensorFlow Datasets by name."""
