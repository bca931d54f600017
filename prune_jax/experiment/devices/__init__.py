"""Many devices: the mesh, replicas on it, and how an epoch is executed."""
