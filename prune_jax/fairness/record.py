"""RunRecord: what a run must state so that others can judge it (paper §2.1, §3.2, §6).

One record is one configuration (an arm) with its seeds. Every accuracy is a percentage, 0 to 100, as the
paper prints it. A record of another metric, such as perplexity, holds that metric's values in the same fields.
``None`` means unstated: it never counts as equal to anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prune_jax.fairness.jsv import JSVSummary
from prune_jax.fairness.metrics import Metric, assumed_metric
from prune_jax.schedules import LRSchedule, canonical

STAGE_KINDS = ("pretrain", "initialise", "sparsify", "rewind", "retrain", "scratch")


@dataclass(frozen=True)
class Axes:
    """The five axes of a pruning method (§2.1), in the field's words.

    Attributes:
        base_model: 'pretrained' or 'random'.
        granularity: 'filter', 'channel', 'head', 'depth', 'unstructured', '2:4' or 'block 4x4'.
        ratio: the fraction removed, as written, such as '0.9', '[0, 0.6, 0.6]' or 'global 0.5'.
        criterion: its name.
        schedule: 'one-shot', 'iterative' or 'progressive'.
    """

    base_model: str | None = None
    granularity: str | None = None
    ratio: str | None = None
    criterion: str | None = None
    schedule: str | None = None


@dataclass(frozen=True)
class Costs:
    """Costs of one forward pass per sample. ``convention`` says what ``macs`` counts, e.g. 'macs, conv+fc'.

    ``speedup`` (dense / pruned MACs) and ``compression`` (dense / pruned params) may be stated alone, as papers do.
    Where the counts are there, leave them out and they follow. ``latency_ms`` is milliseconds of a forward pass on
    ``latency_device``, without which it says little. ``training_flops`` is the whole training's, over those of training
    the dense network once, as papers print it ('0.66x').
    """

    convention: str | None = None
    dense_macs: float | None = None
    pruned_macs: float | None = None
    dense_params: float | None = None
    pruned_params: float | None = None
    speedup: float | None = None
    compression: float | None = None
    latency_ms: float | None = None
    latency_device: str | None = None
    training_flops: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in ("convention", "latency_device") and value is not None and value <= 0:
                raise ValueError(f"costs: {name} must be positive, got {value}")
        for ratio, kind in (("speedup", "macs"), ("compression", "params")):
            dense, pruned = getattr(self, f"dense_{kind}"), getattr(self, f"pruned_{kind}")
            if getattr(self, ratio) is None and dense and pruned:
                object.__setattr__(self, ratio, dense / pruned)


@dataclass(frozen=True)
class Stage:
    """One link of the chain: 'pretrain' or 'initialise', 'sparsify', 'rewind', 'retrain', or 'scratch'.

    'initialise' are random weights that are pruned. 'rewind' gives what is left its weights of an early epoch. Both
    train nothing.

    Attributes:
        kind: one of ``STAGE_KINDS``.
        ids: the content hash for each seed, in the order of the seeds.
        epochs: of training. A one-shot sparsify has 0. Under a rule that ends LR stages they are stated where all seeds
            took as many.
        schedule: canonical LR schedule text over ``epochs``, or as papers print it where that leaves nothing open. A
            one-shot sparsify needs none. Under a rule that ends LR stages it is the rule, ``plateau(...)``.
        macs: forward MACs per sample while the stage runs. Unstated, it is the dense network's. In retrain and scratch
            it is the pruned one's.
        spec: what else the stage states, as JSON.
        extra_macs: MACs per sample that a training step takes beside its forward and backward pass, such as the Gram
            matrices of a penalty. Unstated, none.
        masked_macs: those of ``macs`` that are left where multiplications by masked weights are skipped, a mean over
            the stage. Unstated, all.
    """

    kind: str
    ids: tuple[str, ...] | None = None
    epochs: int | None = None
    schedule: str | None = None
    macs: float | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    extra_macs: float | None = None
    masked_macs: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in STAGE_KINDS:
            raise ValueError(f"stage kind {self.kind!r} is unknown; allowed: {', '.join(STAGE_KINDS)}")
        if self.epochs is not None and self.epochs < 0:
            raise ValueError(f"a {self.kind} stage can't last {self.epochs} epochs")
        if self.extra_macs is not None and self.extra_macs < 0:
            raise ValueError(f"a {self.kind} stage can't have extra_macs {self.extra_macs}")
        if self.masked_macs is not None and self.masked_macs < 0:
            raise ValueError(f"a {self.kind} stage can't have masked_macs {self.masked_macs}")
        if self.epochs and self.schedule is not None and not self.by_rule:
            text = canonical(self.schedule, self.epochs)
            object.__setattr__(self, "schedule", str(LRSchedule.parse(text, self.epochs)))
        object.__setattr__(self, "spec", plain(self.spec))

    @property
    def by_rule(self) -> bool:
        """Whether a rule ended each LR stage, so that the seeds' schedules may differ."""
        return (self.schedule or "").startswith("plateau(")


@dataclass(frozen=True)
class EpochMetrics:
    """Measured after ``epoch`` epochs of the record's last stage. Epoch 0 is before its first step.

    ``mean_jsv_error`` is the standard error of ``mean_jsv`` over examples. ``train_jsv`` is the mean JSV of
    training examples that a plateau rule watched.
    """

    epoch: int
    test_accuracy: float | None = None
    train_loss: float | None = None
    mean_jsv: float | None = None
    lr: float | None = None
    mean_jsv_error: float | None = None
    spectrum: JSVSummary | None = None
    train_jsv: float | None = None

    def __post_init__(self) -> None:
        check_percent("test_accuracy", self.test_accuracy)


@dataclass(frozen=True)
class RoundCurve:
    """The curve of a training stage between the base model and the last stage. ``stage`` is its place in the chain."""

    stage: int
    epochs: tuple[EpochMetrics, ...] = ()


@dataclass(frozen=True)
class SeedResult:
    """One seed: accuracy at the last and at the best epoch, the base model's, and the curve between.

    The paper reports the last epoch (facts: Table 5's 78.18 is Fig. 3's last point, not its best).

    Attributes:
        seed: the random seed.
        last_accuracy: after the last epoch, in the record's metric.
        best_accuracy: of the best epoch, in the record's metric.
        base_accuracy: of the base model, in the record's metric.
        base_mean_jsv: of the base model.
        seconds: of the training, where they are stated.
        epochs: the curve of the last stage. Its epoch 0 is what retraining starts from.
        base_spectrum: the dense network's before pruning.
        pruned_spectrum: the pruned network's before any recovery.
        schedule: the LR schedule that this seed came to have, where the stage states a rule.
        rounds: the curves of the stages before the last one, in a chain of several rounds.
        macs: this seed's own, where the seeds' small networks differ. The record's costs are then means.
        params: this seed's own, as ``macs``.
        top5: the top-5 accuracy after the last epoch.
    """

    seed: int
    last_accuracy: float
    best_accuracy: float | None = None
    base_accuracy: float | None = None
    base_mean_jsv: float | None = None
    seconds: float | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    base_spectrum: JSVSummary | None = None
    pruned_spectrum: JSVSummary | None = None
    schedule: str | None = None
    rounds: tuple[RoundCurve, ...] = ()
    macs: float | None = None
    params: float | None = None
    top5: float | None = None

    def __post_init__(self) -> None:
        check_percent("top5", self.top5)

    def check(self, metric: Metric) -> None:
        """Raise ValueError for a value that ``metric`` can't have."""
        for name in ("last_accuracy", "best_accuracy", "base_accuracy"):
            metric.check(name, getattr(self, name))

    @classmethod
    def from_epochs(
        cls, seed: int, epochs: Sequence[EpochMetrics], *, metric: Metric | None = None, **stated: Any
    ) -> "SeedResult":
        """Take last and best accuracy from the curve. ValueError when its last epoch has none.

        ``metric`` says which of two values is better. Unstated, the higher one is.
        """
        if not epochs or epochs[-1].test_accuracy is None:
            raise ValueError(f"seed {seed}: the last epoch states no test accuracy")
        trained = [e.test_accuracy for e in epochs if e.test_accuracy is not None and e.epoch > 0]
        better = max if metric is None or metric.sign > 0 else min
        best = better(trained or [epochs[-1].test_accuracy])
        return cls(seed, epochs[-1].test_accuracy, best, epochs=tuple(epochs), **stated)


@dataclass(frozen=True)
class Summary:
    """What a paper prints: mean, standard deviation, number of runs. For records without seeds.

    ``mean``, ``std`` and ``base_accuracy`` are in the record's metric. ``top5`` is top-5 accuracy beside it.
    """

    mean: float
    std: float | None = None
    n: int | None = None
    base_accuracy: float | None = None
    top5: float | None = None

    def __post_init__(self) -> None:
        check_percent("top5", self.top5)
        if (self.std is not None and self.std < 0) or (self.n is not None and self.n < 1):
            raise ValueError(f"a summary needs std >= 0 and n >= 1, got std={self.std}, n={self.n}")

    def check(self, metric: Metric) -> None:
        """Raise ValueError for a value that ``metric`` can't have."""
        metric.check("mean", self.mean)
        metric.check("base_accuracy", self.base_accuracy)


@dataclass(frozen=True)
class Optimiser:
    """Settings that Table 2 assumes equal: name, momentum, weight decay, batch size, and anything else."""

    name: str | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    other: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "other", plain(self.other))


@dataclass(frozen=True)
class RunRecord:
    """One arm: what was run, at what cost, through which chain, with which result for every seed.

    ``None`` means unstated. It never counts as equal to anything.

    Attributes:
      name: what the run is called.
      dataset: such as 'cifar10'.
      network: such as 'resnet56'.
      method: such as 'L1-norm'.
      axes: the five axes of a pruning method, see ``Axes``.
      costs: of one forward pass, see ``Costs``.
      stages: the chain, see ``Stage``. None: unstated.
      results: one ``SeedResult`` for each seed.
      summary: mean and standard deviation, of a published record that states no seeds.
      optimiser: its settings, see ``Optimiser``.
      augmentation: what is done to training images.
      versions: package -> version.
      device: what it ran on.
      commit: of the code.
      command: that starts it again.
      job: the cluster job that made it (launcher, id). Comparisons don't look at it.
      seconds: stage kind -> seconds of those stages on ``device``, one number a seed. Comparisons don't look at it.
      config: the resolved config.
      source: where a published record is printed.
      metric: what the values measure. None: what papers print on the data set, most often top-1 accuracy in percent.
      settings: settings of training that no other field holds, such as {'distillation': 'from resnet50'}.

    Raises:
      ValueError: a value that the metric can't have, or a seed twice.

    Example:
      >>> record = RunRecord("L1, 2x", dataset="cifar10", summary=Summary(93.1, std=0.1, n=3))
      >>> record.summary.mean, record.network
      (93.1, None)

    Source: arXiv 2301.05219 §2.1, §3.2, §6 for what a run must state.
    """

    name: str
    dataset: str | None = None
    network: str | None = None
    method: str | None = None
    axes: Axes = Axes()
    costs: Costs = Costs()
    stages: tuple[Stage, ...] | None = None
    results: tuple[SeedResult, ...] = ()
    summary: Summary | None = None
    optimiser: Optimiser | None = None
    augmentation: tuple[str, ...] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: str | None = None
    commit: str | None = None
    command: str | None = None
    job: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    metric: Metric | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", plain(self.config))
        object.__setattr__(self, "seconds", plain(self.seconds))
        object.__setattr__(self, "settings", plain(self.settings))
        for result in self.results:
            result.check(self.measured)
        if self.summary is not None:
            self.summary.check(self.measured)
        seeds = [result.seed for result in self.results]
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"record {self.name!r} holds a seed twice: {sorted(seeds)}")
        if self.stages == ():
            raise ValueError(f"record {self.name!r} has an empty chain; stages=None says that it is unstated")
        for stage in self.stages or ():
            if stage.ids is not None and seeds and len(stage.ids) != len(seeds):
                raise ValueError(
                    f"record {self.name!r}: the {stage.kind} stage has {len(stage.ids)} ids "
                    f"for {len(seeds)} seeds"
                )

    @property
    def measured(self) -> Metric:
        """The metric stated, else the one that papers print on the data set."""
        return self.metric or assumed_metric(self.dataset)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Last-epoch accuracy of every seed, in percent. Empty where only a summary is stated."""
        return tuple(result.last_accuracy for result in self.results)


def check_percent(name: str, value: float | None) -> None:
    """Raise ValueError unless ``value`` is unstated or a percentage in [0, 100]."""
    if value is not None and not 0.0 <= value <= 100.0:
        raise ValueError(f"{name} is a percentage from 0 to 100, got {value!r}")


def plain(value: Any) -> Any:
    """Copy of nested settings as JSON holds them: string keys, lists. So records survive a round trip."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
