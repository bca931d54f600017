"""A section's arguments, which a config may write in two places: as keys of the section, and within ``arguments``."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def joined(where: str, keys: Mapping[str, Any], arguments: Any, example: str) -> dict[str, Any]:
    """Join the section's own keys with what its ``arguments`` holds. A name may stand in one of the two alone.

    Args:
        where: the section's name, for messages.
        keys: its keys that are arguments, with their values.
        arguments: its key ``arguments``.
        example: what ``arguments`` may look like, for messages.

    Returns:
        Name -> value.

    Raises:
        ValueError: ``arguments`` holds no names and values, or a name that is a key too.

    >>> joined("optimizer", {"b2": 0.999}, {"b1": 0.95}, "{'b1': 0.95}")
    {'b2': 0.999, 'b1': 0.95}
    """
    if not isinstance(arguments, Mapping | ConfigDict):
        raise ValueError(f"{where}.arguments is {arguments!r}; it holds names and values: {example}")
    more = dict(arguments)
    for key in sorted(keys.keys() & more.keys()):
        raise ValueError(
            f"{where}.{key} is {keys[key]!r}, but {where}.arguments has {key}={more[key]!r}; say it once"
        )
    return {**keys, **more}
