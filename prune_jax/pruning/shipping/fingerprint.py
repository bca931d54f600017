"""What says that two networks couple the same channels, without the networks."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from prune_jax.pruning.jaxpr.groups import Group


def fingerprint(groups: Sequence[Group]) -> dict[str, str]:
    """A digest for each group: of its size, and of which channel each position of each of its leaf axes belongs to."""
    return {group.name: _digest(group) for group in groups}


def _digest(group: Group) -> str:
    members = sorted((path, axis, index.tolist()) for path, axis, index in group.members)
    text: Any = [group.size, members]
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]


def check_same(saved: dict[str, str], groups: Sequence[Group], keep: Any) -> None:
    """Raise ValueError where a group that lost channels isn't the saved network's."""
    here = fingerprint(groups)
    for name in keep:
        if name not in here:
            raise ValueError(
                f"group {name!r} of the file isn't in this network, whose groups are {', '.join(here)}: it is another "
                "architecture"
            )
        if here[name] != saved.get(name):
            raise ValueError(
                f"group {name!r} couples other channels in this network than in the saved one: it is another "
                "architecture, or was traced by another version; prune it anew"
            )
