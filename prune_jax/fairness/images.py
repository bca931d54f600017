"""Which images a record's network saw and in what form, read off its last stage's spec, for comparison.

Two draws of ImageNet100's classes bear one name, and so do 224 and 32 pixels of the same images. The spec that every
stage states says more: ``spec["data"]`` with ``classes`` (ids), ``recipe`` (``size``, ``resize``), ``mean``, ``std``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from prune_jax.fairness.record import RunRecord

FORMS = (
    "size",
    "resize",
    "mean",
    "std",
)  # that a comparison takes as equal where one side leaves them unstated


def classes(record: RunRecord) -> str | None:
    """A digest of the classes used of the data set, and their number, e.g. '1a2b3c4d of 100'. None: nothing stated."""
    ids = _data(record).get("classes")
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not ids:
        return None
    digest = hashlib.sha256(",".join(map(str, sorted(ids))).encode()).hexdigest()[:8]
    return f"{digest} of {len(ids)}"


def form(record: RunRecord) -> dict[str, Any]:
    """What is stated of ``FORMS``: pixels a side, the shorter side before the centre is cut, normalisation."""
    data = _data(record)
    recipe = data.get("recipe")
    stated = {**data, **(recipe if isinstance(recipe, Mapping) else {})}
    return {key: stated[key] for key in FORMS if key in stated}


def content(record: RunRecord) -> str:
    """The beginning of the digest of a user's own arrays. 'unstated' without one."""
    return str(_data(record).get("content", "unstated"))[:16]


def unlike(a: RunRecord, b: RunRecord) -> tuple[str, str] | None:
    """What of the two differs, as text for each. None where nothing is known to differ.

    Classes that one side alone states differ from none. A form that one side leaves unstated is ``assumed`` equal.
    """
    x, y = form(a), form(b)
    differing = {key: (x[key], y[key]) for key in FORMS if key in x and key in y and x[key] != y[key]}
    if classes(a) != classes(b):
        differing = {"classes": (classes(a) or "unstated", classes(b) or "unstated"), **differing}
    contents = [content(record) for record in (a, b)]
    if contents[0] != contents[1]:
        differing["content"] = (contents[0], contents[1])
    if not differing:
        return None
    first, second = (", ".join(f"{key} {pair[i]}" for key, pair in differing.items()) for i in (0, 1))
    return first, second


def assumed(a: RunRecord, b: RunRecord) -> tuple[str, ...]:
    """The forms that one side states and the other doesn't, e.g. ('image size',)."""
    x, y = form(a), form(b)
    return tuple(f"image {key}" for key in FORMS if (key in x) != (key in y))


def _data(record: RunRecord) -> Mapping[str, Any]:
    data = record.stages[-1].spec.get("data") if record.stages else None
    return data if isinstance(data, Mapping) else {}
