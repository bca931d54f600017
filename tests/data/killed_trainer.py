"""A process that reads one batch through a worker, prints the worker's pid and is killed."""

import dataclasses
import multiprocessing
import os
import signal
import sys

from prune_jax import data

RECIPE = dataclasses.replace(data.IMAGENET_RECIPE, size=24, resize=32)


def main() -> None:
    dataset = data.open_dataset("imagenet2012", data_dir=sys.argv[1], recipe=RECIPE)
    stream = data.open_stream(dataset, batch_size=40, seed=0, train=True, recipe=RECIPE, workers=1)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
