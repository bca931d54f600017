"""A part of a training split with the classes in the proportions of the whole, drawn with a seed."""

import numpy as np

from prune_jax.data.tfds import Dataset, Split


def stratified_subset(labels: np.ndarray, examples: int, seed: int) -> np.ndarray:
    """Which examples a subset takes.

    Every class gets its share of ``examples``, rounded down. What is left goes one each to the classes with the
    largest remainders, of equal ones to the lower class. In a class the examples are drawn without replacement.

    Args:
        labels: integers ``(n,)``.
        examples: how many to take, at least one a class and at most n.
        seed: of the draw.

    Returns:
        Positions int64 ``(examples,)``, ascending.

    Raises:
        ValueError: for a number that is too small or too large.

    Example:
        >>> import numpy as np
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[stratified_subset(labels, 3, seed=0)].tolist()
        [0, 0, 1]
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= examples <= len(labels):
        raise ValueError(
            f"dataset.train_examples is {examples}; allowed: 0 for all, or {len(classes)} (one a class) to "
            f"{len(labels)}"
        )
    shares, remainders = np.divmod(counts * examples, len(labels))
    more = np.argsort(-remainders, kind="stable")[: examples - shares.sum()]
    shares[more] += 1
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(np.flatnonzero(labels == label), share, replace=False)
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def take_train(dataset: Dataset, examples: int, seed: int) -> Dataset:
    """The data set with ``examples`` of its training split, by ``stratified_subset``. 0 takes all.

    Raises ValueError for a number that is too small or too large.
    """
    if not examples:
        return dataset
    positions = stratified_subset(dataset.train.labels, examples, seed)
    return dataset._replace(train=Split(dataset.train.images[positions], dataset.train.labels[positions]))
