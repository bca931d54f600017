"""A picture of a network's coupled groups."""
