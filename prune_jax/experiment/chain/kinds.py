"""Every kind of stage: how it is computed, found on disk, put in the record and said in a dry run.

A new kind is one file with these four functions and one line here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prune_jax import fairness
from prune_jax.experiment.arm import Link
from prune_jax.experiment.chain import (
    imported,
    initialise,
    regularise,
    rewind,
    sparse_training,
    sparsify,
    train,
)
from prune_jax.experiment.specs import (
    Gradual,
    Imported,
    Initialise,
    Pretrain,
    Regularise,
    Retrain,
    Rewind,
    Scratch,
    SparseScratch,
    Sparsify,
    Stage,
)
from prune_jax.experiment.training.cohort import Context, is_finished


class StageKind(NamedTuple):
    """What the chain asks of a kind of stage.

    Attributes:
        finish: brings a stage to its end on disk for every seed, unless it is there.
        is_there: whether it is on disk for every seed.
        recorded: the stage as a record states it, given the mean MACs of its network and the epochs that the
            seeds took.
        line: what a dry run says of it, without id and cost.
        trains: whether it takes epochs.
    """

    finish: Callable[[Context, Link], None]
    is_there: Callable[[Context, Link], bool]
    recorded: Callable[[Link, float, set[int]], fairness.Stage]
    line: Callable[[Link], str]
    trains: bool


def _all_there(context: Context, link: Link) -> bool:
    return all(is_finished(context, its_id) for its_id in link.ids)


_TRAINED = StageKind(train.finish, _all_there, train.recorded, train.line, trains=True)
_MASKED = _TRAINED._replace(recorded=sparse_training.recorded, line=sparse_training.line)
KINDS: Mapping[type, StageKind] = MappingProxyType(
    {
        Pretrain: _TRAINED,
        Retrain: _TRAINED,
        Scratch: _TRAINED,
        SparseScratch: _MASKED,
        Gradual: _MASKED,
        Regularise: StageKind(train.finish, _all_there, regularise.recorded, regularise.line, trains=True),
        Sparsify: StageKind(sparsify.finish, _all_there, sparsify.recorded, sparsify.line, trains=False),
        Initialise: StageKind(
            initialise.finish, _all_there, initialise.recorded, initialise.line, trains=False
        ),
        Rewind: StageKind(rewind.finish, _all_there, rewind.recorded, rewind.line, trains=False),
        Imported: StageKind(
            imported.finish, imported.is_there, imported.recorded, imported.line, trains=False
        ),
    }
)


def kind_of(spec: Stage) -> StageKind:
    """The kind of a stage's spec."""
    return KINDS[type(spec)]
