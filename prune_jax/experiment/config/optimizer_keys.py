"""What ``config.optimizer`` says: the optimiser's name, its arguments, and the options of a training step."""

import inspect
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from prune_jax import fairness, nearest
from prune_jax.experiment.config.arguments import joined
from prune_jax.experiment.config.defaults import default_config
from prune_jax.experiment.own import parts as own_parts
from prune_jax.experiment.specs import TrainSpec
from prune_jax.experiment.training import optimizers
from prune_jax.experiment.training.optimizers import Rule

SGD = {"momentum": 0.9, "weight_decay": 0.0}  # what None means for 'sgd'
OPTIONS = ("clip_norm", "label_smoothing", "ema")
KEYS = ("name", "batch_size", "accumulate", *SGD, *OPTIONS, "arguments")
PLAIN = (bool, int, float, str, type(None))


def completed(config: ConfigDict) -> ConfigDict:
    """A config whose ``optimizer`` has every key, where a file has replaced it by one with some of them."""
    if set(KEYS) <= set(config.optimizer.keys()):
        return config
    whole = ConfigDict(config)
    whole.optimizer = ConfigDict({**default_config().optimizer.to_dict(), **config.optimizer.to_dict()})
    return whole


def read(section: ConfigDict) -> dict[str, Any]:
    """The optimiser's fields of a ``TrainSpec`` from a complete ``config.optimizer``.

    ``momentum`` and ``weight_decay`` are 'sgd''s own. Another optimiser has them among its arguments, where it
    takes such. None of the two means the optimiser's own default.

    Raises:
        ValueError: in one line with key and value, for an optimiser that optax lacks, an argument that it refuses,
            and a value outside its range.
    """
    name, given = str(section.name), _arguments(section)
    _refuse_unknown(name, given)
    usual = {key: _usual(section, key) for key in SGD}
    options = {key: _number(section, key) for key in OPTIONS}
    if name == "sgd":
        own = {key: SGD[key] if value is None else value for key, value in usual.items()}
    else:
        own, given = dict.fromkeys(SGD, 0.0), given | _passed_on(name, usual)
    arguments = tuple(sorted(given.items()))
    source = own_parts.source_of(name, "optimizer.name") if own_parts.is_own(name) else ""
    if name != "sgd" or arguments:
        optimizers.refuse_unfit(Rule(name, arguments, source=source))
    return {**own, **options, "optimizer": name, "arguments": arguments, "source": source}


def rule_of(train: TrainSpec) -> Rule:
    """The optimiser of a training stage."""
    return Rule(train.optimizer, train.arguments, train.clip_norm, train.source)


def stated_in_record(train: TrainSpec) -> fairness.Optimiser:
    """A training stage's optimiser as its record states it. Of the options only those that are in use."""
    other = {key: value for key in OPTIONS if (value := getattr(train, key))}
    momentum, decay = train.momentum, train.weight_decay
    given = dict(train.arguments)
    if train.optimizer != "sgd":
        momentum, decay = given.pop("momentum", None), given.pop("weight_decay", None)
        if decay is None and ":" not in train.optimizer:
            decay = 0.0  # it takes no such argument
    if train.source:
        other["source"] = train.source
    return fairness.Optimiser(train.optimizer, momentum, decay, train.batch_size, given | other)


def _arguments(section: ConfigDict) -> dict[str, Any]:
    """Every key that isn't the package's own, and what ``arguments`` holds."""
    extra = {key: value for key, value in section.items() if key not in KEYS}
    told = joined("optimizer", extra, section.arguments, "{'b1': 0.95}")
    return {key: _plain(key, value) for key, value in told.items()}


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(key, each) for each in value)
    if not isinstance(value, PLAIN):
        raise ValueError(
            f"optimizer.{key} is of type {type(value).__name__}; allowed: numbers, text, True, False, None and lists "
            "of them; what needs more is a function of your own, optimizer.name='module:function'"
        )
    return value


def _refuse_unknown(name: str, arguments: Mapping[str, Any]) -> None:
    taken = _takes(name)
    if taken is None:
        return
    allowed = [key for key in taken if key != "learning_rate" and not (name == "sgd" and key in SGD)]
    for key in arguments:
        if key == "learning_rate":
            raise ValueError("optimizer.learning_rate is no key: the LR is set by the schedule of each stage")
        if key not in allowed:
            near = nearest.closest(key, [*allowed, *KEYS])
            hint = f"; did you mean optimizer.{near[0]}?" if near else ""
            raise ValueError(
                f"optimizer.{key} is {arguments[key]!r}, but {name} takes no such argument; it takes "
                f"{', '.join(allowed) or 'none'}{hint}"
            )


def _takes(name: str) -> dict[str, Any] | None:
    """The arguments of an optimiser with their defaults. None where it takes any."""
    parameters = inspect.signature(optimizers.named(name)).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return None
    return {key: each.default for key, each in parameters.items()}


def _passed_on(name: str, usual: Mapping[str, float | None]) -> dict[str, Any]:
    """Of ``momentum`` and ``weight_decay`` what ``name`` is called with: as given, else its own number."""
    taken, out = _takes(name), {}
    for key, value in usual.items():
        if taken is None or key in taken:
            default = None if taken is None else taken[key]
            if value is not None or isinstance(default, int | float):
                out[key] = default if value is None else value
        elif value:
            raise ValueError(
                f"optimizer.{key} is {value:g}, but {name} takes no such argument; it takes "
                f"{', '.join(k for k in taken if k != 'learning_rate')}; leave optimizer.{key} at None, or choose "
                "another optimizer.name"
            )
    return out


def _usual(section: ConfigDict, key: str) -> float | None:
    return None if section[key] is None else _number(section, key)


def _number(section: ConfigDict, key: str) -> float:
    value, high = section[key], float("inf") if key in ("weight_decay", "clip_norm") else 1.0
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.0 <= value < high:
        raise ValueError(f"optimizer.{key} is {value!r}; allowed: [0, {high:g})")
    return float(value)
