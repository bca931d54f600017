"""So many training examples for something within the sparsifying action, checked before any work."""

from ml_collections import ConfigDict

from prune_jax.experiment.config.dataset import AnyDataset
from prune_jax.experiment.specs import Gathering


def gathering(config: ConfigDict, key: str, dataset: AnyDataset, why: str) -> Gathering:
    """What ``config.sparsify.KEY`` says with its ``batches`` and its ``batch_size``, 0 for the optimiser's.

    Args:
        config: the whole config.
        key: of its section ``sparsify``, such as 'evidence'.
        dataset: has so many training examples.
        why: how a message begins: what needs the examples.

    Raises:
        ValueError: in one line, for less than one example, or more than there are.
    """
    batches, size = config.sparsify[key].batches, config.sparsify[key].batch_size
    size = size or config.optimizer.batch_size
    if batches < 1 or size < 1 or batches * size > dataset.train_size:
        raise ValueError(
            f"{why}: sparsify.{key}.batches is {batches} and batch_size {size}; {dataset.name} has "
            f"{dataset.train_size} training examples, so batches * batch_size is allowed from 1 to that"
        )
    return Gathering(batches, size)
