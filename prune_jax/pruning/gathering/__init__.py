"""How evidence is gathered: the network is run, and what passes is summed."""
