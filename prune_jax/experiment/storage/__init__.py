"""What a workdir holds: stages, checkpoints, leases, reports, curves."""
