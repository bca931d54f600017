"""Many processes: how they meet, act as one, are lost, preempted, and what Slurm says of them."""
