"""A pruned network leaves the process: saved, loaded, exported."""
