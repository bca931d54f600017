"""Train ResNet-8, alone or as one of two processes, and keep what came out; started by test_many_devices.py.

python two_processes.py OUT [ADDRESS NUMBER]
"""

import sys

import jax
import numpy as np
from eight_devices import RESNET, trained

from prune_jax.experiment import distributed
from prune_jax.experiment.execution import Execution
from prune_jax.experiment.placement import MeshShape


def main(out, address=None, number=None):
    if address is not None:
        distributed.start(distributed.Cluster(address, 2, int(number)))
    everything = trained(RESNET, Execution("step", "loop"), MeshShape(1, jax.device_count(), 1))
    leaves = jax.tree.leaves(distributed.fetch(everything))
    if distributed.is_main():
        np.savez(out, *leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])
