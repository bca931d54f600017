"""What a record states of each field that a setup asks for, as JSON: two records are judged from their facts alone.

``setups.strictest_setup`` judges records. A page in a browser holds no records, so it judges these facts by the rule
that ``RULES`` names for each field. A test holds both to one verdict over random pairs.
"""

import functools
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from prune_jax.fairness import chain, images, training_settings
from prune_jax.fairness.chance import stuck_text
from prune_jax.fairness.comparison import sample
from prune_jax.fairness.record import RunRecord

Fact = list[Any] | None  # a key and its text. Equal keys mean equal values, None is unstated
Kinds = tuple[str, ...]


def key(value: Any) -> str:
    """A text that is equal for two values exactly where Python calls them equal: 1 and 1.0, (1, 2) apart from [2, 1].

    >>> key({"a": 1.0, "b": [True]}) == key({"b": [1], "a": 1})
    True
    """
    return _text_key(value) if isinstance(value, str) else _any_key(value)


@functools.lru_cache(
    maxsize=4096
)  # a memo of a pure function: thousands of records share few names and schedules
def _text_key(value: str) -> str:
    return json.dumps(value)


def _any_key(value: Any) -> str:
    return json.dumps(_comparable(value), sort_keys=True, default=str)


def _comparable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _comparable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else value


def _fact(value: Any, text: str | None = None) -> Fact:
    return None if value is None else [key(value), str(value) if text is None else text]


def _named(settings: Mapping[str, Any]) -> list[list[str]]:
    """Name, key and text of each setting, in the order in which they are stated."""
    return [[name, key(value), str(value)] for name, value in settings.items()]


def _metric(record: RunRecord) -> Fact:
    metric = record.measured
    return [key([metric.name, metric.unit, metric.direction]), metric.text]


def _dataset(record: RunRecord) -> dict[str, Any]:
    return {
        "name": record.dataset,
        "classes": images.classes(record),
        "form": _named(images.form(record)),
        "content": images.content(record),
    }


def _rate(record: RunRecord) -> list[list[Any] | None]:
    stated = (record.costs.speedup, record.costs.compression)
    return [None if value is None else [value, f"{value:.4g}x"] for value in stated]


def _base_model(record: RunRecord) -> Fact:
    """The key is '' where there is no base model."""
    ids = chain.base_ids(record)
    return None if ids is None else [key(sorted(ids)) if ids else "", chain.base_text(record)]


def _augmentation(record: RunRecord) -> Fact:
    stated = record.augmentation
    return None if stated is None else [key(stated), "+".join(stated) or "none"]


def _optimiser(record: RunRecord) -> dict[str, Any]:
    options = training_settings.options(record)
    return {
        "stated": _named(training_settings.stated_optimiser(record)),
        "options": None if options is None else _named(options),
    }


def _over(read: Callable[[RunRecord, Kinds], Any]) -> Callable[[RunRecord], list[Fact]]:
    """A sum over the whole chain, and over what follows the base model: which counts depends on the pair."""
    return lambda record: [_fact(read(record, kinds)) for kinds in (chain.ALL, chain.AFTER_BASE)]


def _compute(record: RunRecord) -> list[list[Any] | None]:
    """Compute of the whole chain and after the base model, and training FLOPs as printed."""
    sums = [chain.compute(record, kinds) for kinds in (chain.ALL, chain.AFTER_BASE)]
    printed = record.costs.training_flops
    facts = [None if found is None else list(found) for found in sums]
    told = None if printed is None else [printed, f"{printed:.4g} times the dense network's training"]
    return [*facts, told]


# Field of a setup -> the rule by which two facts are compared, and what reads the fact.
RULES: Mapping[str, tuple[str, Callable[[RunRecord], Any]]] = MappingProxyType(
    {
        "metric": ("same", _metric),
        "dataset": ("dataset", _dataset),
        "network": ("same", lambda r: _fact(r.network)),
        "rate": ("rate", _rate),
        "base_model": ("base", _base_model),
        "retrain_epochs": ("same", lambda r: _fact(chain.length(r, ("retrain",)))),
        "retrain_schedule": ("same", lambda r: _fact(chain.schedules(r, ("retrain",)))),
        "optimiser": ("optimiser", _optimiser),
        "augmentation": ("stated", _augmentation),
        "settings": ("settings", lambda r: _named(r.settings)),
        "prune_epochs": ("same", lambda r: _fact(chain.length(r, ("sparsify",)))),
        "prune_schedule": ("same", lambda r: _fact(chain.schedules(r, ("sparsify",)))),
        "total_epochs": ("total", _over(chain.length)),
        "total_compute": ("compute", _compute),
        "overall_schedule": ("total", _over(chain.overall_schedule)),
    }
)


def facts(record: RunRecord) -> dict[str, Any]:
    """All that a verdict and its sentence need of a record, as JSON holds it.

    Args:
        record: any.

    Returns:
        A fact for each field of ``RULES``, and: ``pretraining``, settings of the training from random weights.
        ``measure``, the metric's name, unit, direction, sign and whether it is stated. ``sample``, mean, std, n and
        their text, None where the record has no result. ``chance``, the seeds that learnt nothing, '' without any.

    Example:
        >>> facts(RunRecord("A", network="resnet56"))["network"]
        ['"resnet56"', 'resnet56']
    """
    metric, stated = record.measured, sample(record)
    return {name: read(record) for name, (_, read) in RULES.items()} | {
        "pretraining": _named(training_settings.first_training(record)),
        "measure": [metric.name, metric.unit, metric.direction, metric.sign, record.metric is not None],
        "sample": None if stated is None else [stated.mean, stated.std, stated.n, str(stated)],
        "chance": stuck_text(record),
    }
