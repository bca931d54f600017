"""From a config to specs: keys and defaults, flags, data sets, the runs of a sweep."""
