"""One run of a sweep: its chain of stages, their ids, and how it is measured and executed."""

from typing import Any, NamedTuple

from prune_jax.experiment.devices import mesh as devices_mesh
from prune_jax.experiment.devices import strategy
from prune_jax.experiment.specs import (
    Imported,
    Initialise,
    Measure,
    ModelSpec,
    Pretrain,
    Ratios,
    Scratch,
    SparseScratch,
    Sparsify,
    Stage,
    kind,
    purposes,
)


class Arm(NamedTuple):
    """One run: a chain of stages for several seeds, and how it is measured and executed.

    ``ids`` holds each seed's stage ids, ``ids[i][k]`` of seed ``seeds[i]`` and stage ``chain[k]``.
    """

    label: str
    chain: tuple[Stage, ...]
    seeds: tuple[int, ...]
    measure: Measure
    execution: strategy.Execution
    mesh: devices_mesh.MeshShape
    remat: str
    config: dict[str, Any]
    ids: tuple[tuple[str, ...], ...]

    @property
    def model(self) -> ModelSpec:
        """The dense network at the chain's head."""
        first = self.chain[0]
        assert isinstance(first, Pretrain | Imported | Initialise | Scratch | SparseScratch)
        return first.model

    @property
    def ratios(self) -> Ratios:
        """(group, ratio) pairs: what the whole chain removes. Empty where the scores decide."""
        return next((s.ratios for s in reversed(self.chain) if isinstance(s, Sparsify | Scratch)), ())


class Link(NamedTuple):
    """A stage at its place in a run."""

    arm: Arm
    position: int

    @property
    def spec(self) -> Any:
        """The stage's spec."""
        return self.arm.chain[self.position]

    @property
    def kind(self) -> str:
        """The stage's kind, by name."""
        return kind(self.spec)

    @property
    def ids(self) -> tuple[str, ...]:
        """The stage's id for each seed."""
        return tuple(ids[self.position] for ids in self.arm.ids)

    @property
    def parents(self) -> tuple[str | None, ...]:
        """The id of the stage before, for each seed. None at the head of the chain."""
        return tuple(ids[self.position - 1] if self.position else None for ids in self.arm.ids)

    @property
    def purpose(self) -> str:
        """What its random numbers are drawn for: see ``specs.purposes``."""
        return purposes(self.arm.chain)[self.position]


def links(arm: Arm) -> tuple[Link, ...]:
    """The stages of a run at their places."""
    return tuple(Link(arm, position) for position in range(len(arm.chain)))
