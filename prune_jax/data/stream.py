"""Batches of a data set that is read while it is used: Grain over TFDS's random access, resumable at any step."""

import contextlib
import dataclasses
import gc
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from prune_jax.data import workers as processes
from prune_jax.data.images import ImageRecipe
from prune_jax.data.streamed import StreamedDataset, StreamedSplit, read_examples

Batch = tuple[np.ndarray, ...]
AHEAD = 2  # batches that are read, by each worker, before they are asked for
ENDLESS = 2**31  # steps of a training stream, for Grain wants to know


class Stream(Iterator[Batch]):
    """Batches one after another. ``step`` counts those handed out since the start of training.

    Its ``state()`` depends neither on the number of workers nor on that of processes, so a run goes on with
    others than it began with.
    """

    def __init__(self, steps: "_Steps", steps_per_epoch: int, workers: int, first: int) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._steps, self._workers = steps, workers
        self._iterator: Iterator[Batch]
        self._started: bool
        self._start(first)

    def __next__(self) -> Batch:
        first = self._workers and not self._started
        with processes.starting() if first else contextlib.nullcontext(), processes.watched():
            batch = next(self._iterator)
        self._started = True
        self.step += 1
        # A worker's arrays lie in shared memory that Grain takes back. JAX on a CPU would keep looking at it.
        return tuple(map(np.array, batch)) if self._workers else batch

    def state(self) -> dict[str, int]:
        """Where the stream stands, as JSON holds it: the next step, and what the order depends on."""
        return {"step": self.step, **self._steps.identity()}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where ``state`` was taken. ValueError where it is another stream's."""
        here = self.state()
        other = sorted(key for key in here if key != "step" and here[key] != state.get(key))
        if other:
            raise ValueError(
                f"the saved stream differs in {', '.join(f'{k} ({state.get(k)}, here {here[k]})' for k in other)}"
                "; run with the data set, seed and batch size that it was saved with"
            )
        self.close()
        self._start(state["step"])

    def close(self) -> None:
        """End the threads or workers that read ahead. No batch comes after."""
        close = getattr(self._iterator, "close", None)
        if close:
            close()
        self._iterator = iter(())
        if self._workers:
            gc.collect()  # Grain's shared memory goes with its iterators, which cycles keep alive

    def _start(self, first: int) -> None:
        self.step, self._started = first, False
        remaining = dataclasses.replace(self._steps, first=first)
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
        batches = grain.MapDataset.source(remaining).to_iter_dataset(read)
        if not self._workers:
            self._iterator = iter(batches)
            return
        if not flags.FLAGS.is_parsed():  # Grain's workers read its flags, which only absl's own main parses
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(self._workers, AHEAD)
        with processes.starting():
            self._iterator = iter(batches.mp_prefetch(options, processes.live_with_parent))


def open_stream(
    source: StreamedDataset,
    *,
    batch_size: int,
    seed: int,
    train: bool,
    recipe: ImageRecipe | None,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    start_step: int = 0,
) -> Stream:
    """This process's part of every global batch of ``batch_size`` examples, from ``start_step`` on.

    The processes' parts, one below the other, are the batch of a single process. Order and random crops depend on
    ``seed``, epoch and example alone.

    Args:
        source: the data set.
        batch_size: examples of a batch of all processes together.
        seed: of the order of examples, and of random crops and flips.
        train: whether batches are for training, endless and in a new order each epoch. Then what is left over after an
            epoch's last full batch is dropped. Else the test split comes once, in order.
        recipe: what is done to each image. None: it stays as it is.
        process_index: which of the processes this is, from 0.
        process_count: of how many.
        workers: processes that read ahead, no more than an evaluation has batches. 0: a thread of this one does.
        start_step: batches that are left out at the start.

    Returns:
        In training ``(images, labels)`` one after another, uint8 ``(batch_size / process_count, h, w, c)`` and int32.
        In evaluation ``(images, labels, weights)``. The last batch is filled up with zeros whose float32 weight is 0.

    Raises:
        ValueError: sizes don't fit. When a batch is asked for: an image can't be read.
        ReaderLostError: when a batch is asked for, a process that reads is gone.
    """
    split = source.train if train else source.test
    examples = len(split)
    if batch_size < 1 or (train and batch_size > examples):
        raise ValueError(f"optimizer.batch_size is {batch_size}; {split.name} allows 1 to {examples}")
    if batch_size % process_count:
        raise ValueError(
            f"optimizer.batch_size is {batch_size}, which {process_count} processes don't divide; choose a "
            f"multiple of {process_count}, such as {-(-batch_size // process_count) * process_count}"
        )
    if not 0 <= process_index < process_count or start_step < 0:
        raise ValueError(
            f"process_index {process_index} of {process_count}, start_step {start_step}: an index is below its "
            "count, and none is negative"
        )
    per_epoch = examples // batch_size if train else -(-examples // batch_size)
    workers = processes.number_of_workers(workers)
    order = grain.MapDataset.range(examples)
    if train:
        order = order.shuffle(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    part = batch_size // process_count
    steps = _Steps(
        split,
        recipe,
        source.input_shape,
        order,
        seed,
        train,
        batch_size,
        per_epoch,
        process_index * part,
        part,
    )
    return Stream(steps, per_epoch, workers if train else min(workers, per_epoch), start_step)


def prefetch_to_device(
    batches: Iterable[Batch], sharding: jax.sharding.Sharding | None = None, depth: int = 2
) -> Iterator[tuple[jax.Array, ...]]:
    """The batches as global arrays laid out by ``sharding``, ``depth`` of them on their way ahead of use.

    Every process gives its part of the rows. None puts them on the default device.
    """
    waiting: deque[tuple[jax.Array, ...]] = deque()
    for batch in batches:
        waiting.append(tuple(_to_device(array, sharding) for array in batch))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


def _to_device(array: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        return jax.device_put(array)
    return jax.make_array_from_process_local_data(sharding, array)


@dataclasses.dataclass(frozen=True)
class _Steps:
    """One process's batches by their number from ``first`` on: what Grain reads, here or in its workers."""

    split: StreamedSplit
    recipe: ImageRecipe | None
    shape: tuple[int, ...]  # of an image
    order: Any
    seed: int
    train: bool
    batch_size: int
    per_epoch: int
    offset: int  # of this process's rows in a global batch
    rows: int
    first: int = 0

    def identity(self) -> dict[str, int]:
        return {"seed": self.seed, "batch_size": self.batch_size, "examples": len(self.split)}

    def __len__(self) -> int:
        return ENDLESS if self.train else max(self.per_epoch - self.first, 0)

    def __getitem__(self, number: int) -> Batch:
        epoch, step = divmod(self.first + number, self.per_epoch)
        begin = step * self.batch_size + self.offset
        examples = len(self.split)
        positions = range(min(begin, examples), min(begin + self.rows, examples))
        pixels, labels = self._read(
            [int(self.order[epoch * examples + position]) for position in positions], epoch
        )
        return (pixels, labels) if self.train else _filled(pixels, labels, self.rows)

    def _read(self, examples: Sequence[int], epoch: int) -> tuple[np.ndarray, np.ndarray]:
        generators = [np.random.default_rng((self.seed, epoch, example)) for example in examples]
        pixels, labels = read_examples(self.split, examples, self.recipe, generators if self.train else None)
        # The reshape is for a process that has no example left in the last batch.
        return np.array(pixels, np.uint8).reshape(-1, *self.shape), np.array(labels, np.int32)


def _filled(pixels: np.ndarray, labels: np.ndarray, rows: int) -> Batch:
    """Zeros below until there are ``rows``, and each row's weight: 1 for an example, 0 for filling."""
    weights = (np.arange(rows) < len(labels)).astype(np.float32)
    more = rows - len(labels)
    if more:
        pixels = np.concatenate([pixels, np.zeros((more, *pixels.shape[1:]), np.uint8)])
        labels = np.concatenate([labels, np.zeros(more, np.int32)])
    return pixels, labels, weights
