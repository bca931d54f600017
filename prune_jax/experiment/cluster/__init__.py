"""A sweep as many jobs: shards, their submission to Slurm, several jobs on one machine."""
