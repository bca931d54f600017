"""Train ResNet-8, alone or as one of two processes, and keep what came out; started by test_many_devices.py.

python two_processes.py OUT [ADDRESS NUMBER]
"""

import sys

import jax
import numpy as np
from eight_devices import RESNET, trained

from prune_jax.experiment.devices.mesh import MeshShape
from prune_jax.experiment.devices.strategy import Execution
from prune_jax.experiment.processes import collective


def main(out, address=None, number=None):
    if address is not None:
        collective.start(collective.Cluster(address, 2, int(number)))
    everything = trained(RESNET, Execution("step", "loop"), MeshShape(1, jax.device_count(), 1))
    leaves = jax.tree.leaves(collective.fetch(everything))
    if collective.is_main():
        np.savez(out, *leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])
