"""What a record's numbers measure: name, unit, and whether higher or lower is better."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

DIRECTIONS = ("higher", "lower")


@dataclass(frozen=True)
class Metric:
    """A quantity that runs are judged by.

    Args:
        name: what it is called, such as 'perplexity'.
        unit: '%' for a percentage from 0 to 100. '' for a bare number.
        direction: 'higher' or 'lower': which of two values is better.

    Raises:
        ValueError: for an empty name or another direction.

    Example:
        >>> Metric("perplexity", direction="lower").text
        'perplexity, lower is better'
    """

    name: str
    unit: str = ""
    direction: str = "higher"

    def __post_init__(self) -> None:
        if not self.name or self.direction not in DIRECTIONS:
            raise ValueError(
                f"metric {self.name!r} has direction {self.direction!r}; a metric has a name, and its direction is "
                "'higher' or 'lower', whichever is better"
            )

    @property
    def text(self) -> str:
        """Name, unit where there is one, and direction."""
        unit = f" in {self.unit}" if self.unit else ""
        return f"{self.name}{unit}, {self.direction} is better"

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.direction == "higher" else -1

    def check(self, name: str, value: float | None) -> None:
        """Raise ValueError unless a value stated under ``name`` is possible. A percentage lies in 0 to 100."""
        if value is not None and self.unit == "%" and not 0.0 <= value <= 100.0:
            raise ValueError(
                f"{name} is a percentage from 0 to 100, got {value!r}; if it is no {self.name}, state the record's "
                "metric, such as 'perplexity'"
            )


ACCURACY = Metric("top-1 accuracy", "%")
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            ACCURACY,
            Metric("top-5 accuracy", "%"),
            Metric("mAP", "%"),
            Metric("perplexity", "", "lower"),
            Metric("bits per byte", "bits", "lower"),
        )
    }
)


def value_text(value: float, metric: Metric) -> str:
    """A value as a line of text shows it.

    >>> value_text(91.25, ACCURACY), value_text(2.5, METRICS["bits per byte"])
    ('91.25 %', '2.500 bits per byte')
    """
    return f"{value:.2f} %" if metric.unit == "%" else f"{value:.3f} {metric.name}"


# Beginnings of names of data sets on which papers print something else than accuracy.
_BY_DATASET: Mapping[str, str] = MappingProxyType(
    {
        r"wikitext|c4\b|ptb|penn|lambada|pile": "perplexity",
        r"enwik|text8": "bits per byte",
        r"coco|(pascal_?)?voc": "mAP",
    }
)


def assumed_metric(dataset: str | None) -> Metric:
    """The metric of a record that states none: what papers print on its data set, else top-1 accuracy.

    >>> assumed_metric("wikitext2").name, assumed_metric("cifar10").name, assumed_metric(None).name
    ('perplexity', 'top-1 accuracy', 'top-1 accuracy')
    """
    name = (dataset or "").lower()
    found = (metric for pattern, metric in _BY_DATASET.items() if re.match(pattern, name))
    return METRICS[next(found, ACCURACY.name)]
