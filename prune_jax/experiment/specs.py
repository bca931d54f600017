"""What a stage is: frozen specs, and the id that a spec and its parent's id hash to."""

import dataclasses
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # specs are read where JAX and TFDS are not
    from prune_jax.data import ImageRecipe

Ratios = tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Which images, how they are split, normalised and augmented.

    Attributes:
      name: of the data set.
      mean: per channel, of images in 0..1.
      std: per channel.
      split_seed: which images packaged sets hold out for testing.
      crop_pad: pixels of padding before a random crop on the device. 0: no crop.
      flip: random flips on the device.
      recipe: prepares images on the host, instead of crop and flip.
      streamed: images are read while training. The order of examples is another then.
      classes: ids of the set's classes that are used. Empty: all.
      examples: how many a synthetic set has.
      content: of a set of the user's own the hash of its arrays and of the file that makes them. Of IDX files the
        hash of what they hold.
      train_examples: how many of the training split, as a stratified subset drawn with ``split_seed``. 0: all.
      window: of a text the bytes of an example, which a network takes as tokens. 0: images.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    split_seed: int = 0
    crop_pad: int = 0
    flip: bool = False
    recipe: "ImageRecipe | None" = None
    streamed: bool = False
    classes: tuple[int, ...] = ()
    examples: int = 0
    content: str = ""
    train_examples: int = 0
    window: int = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A network by name.

    Attributes:
      name: in the catalog, or 'module:function'.
      input_shape: of one example.
      num_classes: number of outputs.
      options: further arguments of the constructor.
      source: of a network of the user's own the SHA-256 of the file that makes it.
      blocks: of a network that has lost whole blocks their path and how many are left. No stage states it: its
        network is the dense one.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    options: tuple[tuple[str, Any], ...] = ()
    source: str = ""
    blocks: tuple[str, int] | tuple[()] = ()


@dataclasses.dataclass(frozen=True)
class Plateau:
    """When an LR phase is over. ``experiment.training.plateau`` holds the rule, which is ours.

    Attributes:
      window: epochs that are averaged, and held against those before.
      loss: nats by which the training loss may move from one window to the next.
      jsv: fraction by which the mean JSV may move.
      minimum: epochs that a phase lasts at least.
      examples: training examples whose mean JSV is watched, the first ones.
    """

    window: int
    loss: float
    jsv: float
    minimum: int
    examples: int


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """A stage's training.

    Attributes:
      schedule: LR schedule in the paper's notation. Under ``extend`` its phases are the longest that they may be.
      epochs: of the stage.
      batch_size: examples of a step.
      momentum: of SGD.
      weight_decay: of SGD.
      precision: of the computation, 'float32' or 'bfloat16', see ``step.StepPlan``.
      accumulate: microbatches that a batch is taken in, see there.
      extend: the rule that ends an LR phase. None: the schedule does.
      optimizer: name of the optimiser.
      arguments: its arguments, where it isn't 'sgd'.
      clip_norm: the gradient's largest global norm. 0: off.
      label_smoothing: the share of the target that is spread over all classes. 0: off.
      ema: decay of a running mean of the weights, which is what is measured and kept. 0: off.
      source: of an optimiser of the user's own the hash of its file.
    """

    schedule: str
    epochs: int
    batch_size: int
    momentum: float
    weight_decay: float
    precision: str = "float32"
    accumulate: int = 1
    extend: Plateau | None = None
    optimizer: str = "sgd"
    arguments: tuple[tuple[str, Any], ...] = ()
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Train the dense network from random initialisation."""

    data: DataSpec
    model: ModelSpec
    train: TrainSpec


@dataclasses.dataclass(frozen=True)
class Imported:
    """A base model read from a file: the SHA-256 of its bytes, the network, the data it is measured on."""

    content: str
    model: ModelSpec
    data: DataSpec


@dataclasses.dataclass(frozen=True)
class Initialise:
    """The dense network at random weights, those that ``Pretrain`` with the same seed begins from."""

    data: DataSpec
    model: ModelSpec


@dataclasses.dataclass(frozen=True)
class Ranking:
    """An allocation that needs scores: it says how much goes, and the scores say of which layer.

    Attributes:
      layers: patterns over names of groups.
      ratio: the fraction removed of all of them together, of the dense network.
      speedup: above 0 it is the target instead, dense MACs over small MACs.
      scope: 'global' ranks all channels together. 'isomorphic' ranks those of groups that are built alike. 'layer'
        gives every layer one ratio. 'sensitivity' gives ratios of equal damage.
      at_least: the fraction of each layer that stays.
      normalise: how layers are made comparable.
    """

    layers: tuple[str, ...]
    ratio: float = 0.0
    speedup: float = 0.0
    scope: str = "global"
    at_least: float = 0.0
    normalise: str = "mean"


@dataclasses.dataclass(frozen=True)
class Gathering:
    """Where evidence comes from, of criteria that need data: so many batches of training examples."""

    batches: int
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Sensing:
    """How sensitivities are measured: each group alone at these ratios, over so many training examples."""

    ratios: tuple[float, ...]
    gathering: Gathering


@dataclasses.dataclass(frozen=True)
class Sparsify:
    """The sparsifying action: a criterion's lowest scores go, then a recovery may follow.

    Attributes:
      criterion: its name, or 'module:function'.
      ratios: (layer, fraction removed) pairs. They are of the dense network, in a later round too.
      granularity: 'filter' cuts channels, 'head' those of attention heads alone. 'depth' removes whole blocks of the
        network. 'unstructured' masks single weights, 'block' blocks of them. 'N:M' leaves N of each M along the
        contraction axis.
      recovery: what follows the cut.
      recovery_gain: of OrthP, the activation's gain.
      source: of a criterion of the user's own the SHA-256 of the file that holds it.
      round_to: kept channels are rounded up to a multiple of it.
      ranking: how the scores divide what is to go, instead of ``ratios``.
      evidence: stated where the criterion needs data.
      recovery_version: which definition of OrthP, see ``pruning.recovery.VERSION``. 1 is unstated, so that finished
        stages of the first keep their ids.
      iterations: how often what is left is scored anew.
      over: which slices a channel's score is of, see ``pruning.criteria.criterion.channel_scores``.
      reduce: how several slices' scores become one, see there.
      compensate: whether weights are changed that the criterion changes besides choosing.
      block: inputs and outputs of a block.
      pad: whether the last M or block may be smaller where a kernel doesn't fit.
      recalibration: stated where the recovery needs data.
      sensitivity: stated where groups lose so much that each alone does equal damage.
      in_turn: whether layer goes after layer, each judged by what the pruned layers before it make of the examples.
    """

    criterion: str
    ratios: Ratios
    granularity: str = "filter"
    recovery: str = "none"
    recovery_gain: float = 1.0
    source: str = ""
    round_to: int = 1
    ranking: Ranking | None = None
    evidence: Gathering | None = None
    recovery_version: int = 1
    iterations: int = 1
    over: str = "producer"
    reduce: str = "mean"
    compensate: bool = True
    block: tuple[int, ...] = ()
    pad: bool = False
    recalibration: Gathering | None = None
    sensitivity: Sensing | None = None
    in_turn: bool = False


@dataclasses.dataclass(frozen=True)
class Regularise:
    """Train under a penalty that pushes the network towards the cut to come: see ``pruning.regularizers``.

    ``arguments`` are all that the regulariser has, by name. It looks at the groups in ``layers``. One that pushes
    chosen channels takes as many of them as ``ratios`` say, always of the dense network, and ``round_to``.
    ``train.epochs`` are its budget. ``stop``: whether its own rule may end it before. ``source``: of a regulariser of
    the user's own the SHA-256 of the file that holds it.
    """

    data: DataSpec
    train: TrainSpec
    regularizer: str
    arguments: tuple[tuple[str, Any], ...]
    layers: tuple[str, ...]
    ratios: Ratios = ()
    round_to: int = 1
    stop: bool = True
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a teacher's outputs add to the loss: see ``training.distillation.loss``.

    ``weight`` of the teacher in the loss, the labels have the rest. ``temperature`` that soft outputs are taken at.
    ``teacher``: the SHA-256 of the file that it is read from. Where it is empty, the teacher is the base model of the
    chain.
    """

    weight: float
    temperature: float
    teacher: str = ""


@dataclasses.dataclass(frozen=True)
class Masking:
    """A mask rule: its name, the layers that it prunes and its other arguments, as (name, value) pairs.

    ``source``: of a rule of the user's own the SHA-256 of the file that holds it.
    """

    rule: str
    layers: tuple[str, ...]
    arguments: tuple[tuple[str, Any], ...] = ()
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Retrain:
    """Train the small network on, with a fresh optimiser. ``distill``: towards a teacher's outputs too."""

    data: DataSpec
    train: TrainSpec
    distill: Distillation | None = None


@dataclasses.dataclass(frozen=True)
class Gradual:
    """Train the network on while a mask rule prunes it."""

    data: DataSpec
    train: TrainSpec
    masking: Masking


@dataclasses.dataclass(frozen=True)
class Rewind:
    """Give the weights that are left the values that they had after ``to`` epochs of pretraining. 0: their random ones.

    Batch statistics go back too. What was pruned stays pruned.
    """

    to: int


@dataclasses.dataclass(frozen=True)
class Scratch:
    """Train the small dense network, sized by ``ratios`` and ``round_to``, from its own random initialisation."""

    data: DataSpec
    model: ModelSpec
    ratios: Ratios
    train: TrainSpec
    round_to: int = 1


@dataclasses.dataclass(frozen=True)
class SparseScratch:
    """Train a network that is sparse from the start, at random weights, under a mask rule."""

    data: DataSpec
    model: ModelSpec
    train: TrainSpec
    masking: Masking


Stage = (
    Pretrain
    | Imported
    | Initialise
    | Regularise
    | Sparsify
    | Gradual
    | Rewind
    | Retrain
    | Scratch
    | SparseScratch
)


@dataclasses.dataclass(frozen=True, repr=False)
class Measure:
    """What is measured beside loss and accuracy. It changes no weight, so it is no part of an id.

    Attributes:
      jsv_examples: test examples whose Jacobian is measured. 0: none.
      jsv_every: after every n-th epoch.
      jsv: 'mean' for the mean JSV and its standard error, 'spectrum' for a ``fairness.JSVSummary`` as well.
      jsv_budget: 0 for exact values. Else it bounds the pull-backs of an estimate.
    """

    jsv_examples: int = 0
    jsv_every: int = 1
    jsv: str = "mean"
    jsv_budget: int = 0

    def __repr__(self) -> str:
        """The fields, the younger ones where they are set: records are named after this text."""
        young = {"jsv": "mean", "jsv_budget": 0}
        shown = {k: v for k, v in vars(self).items() if k not in young or v != young[k]}
        return f"Measure({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def same_values(self, other: "Measure") -> bool:
        """Whether both measure the same numbers, however often and however many of their statistics."""
        return (self.jsv_examples, self.jsv_budget) == (other.jsv_examples, other.jsv_budget)


def kind(spec: Stage) -> str:
    """What a stage is, by its class's name in small letters: ``pretrain``, ``sparsify``, ``sparse_scratch`` ..."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(spec).__name__).lower()


def purposes(chain: tuple[Stage, ...]) -> tuple[str, ...]:
    """What each stage's random numbers are drawn for: its kind, and from the second of a kind on 'kind/2', 'kind/3'.

    >>> from prune_jax.experiment.specs import Retrain, Sparsify
    >>> purposes((Sparsify("l1", ()), Retrain(None, None), Sparsify("l1", ())))
    ('sparsify', 'retrain', 'sparsify/2')
    """
    kinds = [kind(spec) for spec in chain]
    numbers = [kinds[: i + 1].count(name) for i, name in enumerate(kinds)]
    return tuple(
        name if number == 1 else f"{name}/{number}" for name, number in zip(kinds, numbers, strict=True)
    )


def stated(spec: Any) -> dict[str, Any]:
    """A spec as plain data without the fields at their default, so that a new field leaves old ids alone."""
    out = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if value == field.default:
            continue
        out[field.name] = stated(value) if dataclasses.is_dataclass(value) else value
    return out


def stage_id(spec: Stage, seed: int, parent: str | None) -> str:
    """16 hex digits: SHA-256 of the spec's canonical JSON, the seed and the parent stage's id.

    An imported base model is its file: the first digits of the content's own hash, whatever the seed.
    """
    if isinstance(spec, Imported):
        return spec.content[:16]
    content = {"kind": kind(spec), "spec": stated(spec), "seed": seed, "parent": parent}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chain_ids(chain: tuple[Stage, ...], seed: int) -> tuple[str, ...]:
    """The ids of a chain's stages for one seed, each hashed from its spec and its parent's id."""
    ids: list[str] = []
    for spec in chain:
        ids.append(stage_id(spec, seed, ids[-1] if ids else None))
    return tuple(ids)
