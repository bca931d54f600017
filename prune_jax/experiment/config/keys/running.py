"""The sections of how a run is measured, executed, kept and reported. No stage's id depends on them."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.keys.any_type import any_type


def measure() -> ConfigDict:
    """What is measured besides accuracy. No weight depends on it."""
    return ConfigDict(
        {
            # Jacobian singular values. False: none. True or 'mean': their mean. 'spectrum': their distribution too.
            "jsv": any_type(False),
            # Epochs between two measurements. 'epoch' means 1.
            "every": any_type(1),
            # Test examples whose Jacobian is taken. 0: the first 512, or all of a smaller set.
            "examples": 0,
            # 0: the mean is exact. Else it is estimated with so many pull-backs, over all examples together.
            "budget": 0,
        }
    )


def execution() -> ConfigDict:
    """How training is compiled. 'auto' chooses by backend and network."""
    return ConfigDict(
        {
            # 'scan': an epoch is one program. 'step': each step is. Or 'auto'.
            "epoch": "auto",
            # The seeds of a run. 'vmap': they train together. 'loop': one after another. Or 'auto'.
            "replicas": "auto",
            # What one program trains. 'run': the seeds of a run.
            # 'sweep': those of all runs that differ in the learning rates alone.
            "together": "run",
        }
    )


def mesh() -> ConfigDict:
    """The devices that a run is spread over. No stage's id depends on it."""
    return ConfigDict(
        {
            # Devices that the seeds under vmap are spread over. 0: chosen.
            "replicas": 0,
            # Devices that a batch is split over. 0: chosen.
            "data": 0,
            # Devices that share every parameter (FSDP). 1: each has all of them.
            "fsdp": 1,
        }
    )


def checkpoint() -> ConfigDict:
    """What is kept of a stage that isn't finished."""
    return ConfigDict(
        {
            # Checkpoints of an unfinished stage that are kept, at least 1.
            "keep": 1
        }
    )


def distributed() -> ConfigDict:
    """How long processes wait for each other under ``--distributed``."""
    return ConfigDict(
        {
            # Seconds until processes that don't all meet give up.
            "initialization_timeout": 300,
            # Seconds until a silent process counts as lost.
            "heartbeat_timeout": 100,
        }
    )


def cluster() -> ConfigDict:
    """The jobs that ``--launcher`` submits, one node each. What is empty or 0 is left to the cluster."""
    return ConfigDict(
        {
            # Jobs. A sweep of fewer runs makes as many as it has runs.
            "shards": 8,
            # Minutes until a job is stopped. Its run saves its state and is queued again.
            "minutes": 60,
            # Times that a job may be queued again after it was stopped. Preemption doesn't count.
            "requeues": 20,
            # GPUs of each job.
            "gpus": 0,
            # CPUs of each job.
            "cpus": 0,
            # Memory of each job, in GB.
            "memory_gb": 0,
            # Slurm's partition: where jobs queue.
            "partition": "",
            # Slurm's account: who pays.
            "account": "",
            # Slurm's quality of service.
            "qos": "",
            # Slurm's constraint: which nodes will do.
            "constraint": "",
            # Jobs of the array that may run at the same time.
            "at_once": 0,
        }
    )


def report() -> ConfigDict:
    """What the experiment's report shows."""
    return ConfigDict(
        {
            # Its heading. Empty: 'Report'.
            "title": "",
            # A text below the heading, in Markdown.
            "text": "",
            # Its sections, in this order: names of prune_jax.report.SECTIONS.
            "sections": ("accuracy",),
            # Whether report.html is made, a page with every curve.
            "interactive": True,
        }
    )
