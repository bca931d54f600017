"""Schedules of a retraining that are told by the pretraining's: rewound learning rates, cyclic restarting."""

import re

from prune_jax.schedules.recipes import cyclic_restart
from prune_jax.schedules.schedule import LRSchedule

GRAMMAR = "allowed: 'rewind', 'clr', 'clr(LOWEST,HIGHEST)' or 'clr(LOWEST,HIGHEST,SHARE)'"


def is_recipe(text: str) -> bool:
    """Whether a schedule's text is a recipe of ``retraining``, not an LR schedule itself.

    >>> is_recipe("clr(1e-3,1e-1)"), is_recipe("0:1e-3")
    (True, False)
    """
    return isinstance(text, str) and re.match(r"\s*(rewind|clr)\b", text) is not None


def rewound(pretraining: LRSchedule, epochs: int) -> LRSchedule:
    """The LRs of the last epochs of a pretraining: learning-rate rewinding.

    Args:
      pretraining: its schedule.
      epochs: how many of its last epochs.

    Returns:
      A schedule of so many epochs.

    Raises:
      ValueError: there are fewer epochs, or none is asked for.

    Source: Renda, Frankle & Carbin, ICLR 2020, arXiv 2003.02389.

    Example:
      >>> str(rewound(LRSchedule.parse("0:0.1,60:0.01,80:0.001", 90), 40))
      '0:0.1,10:0.01,30:0.001'
    """
    if not 1 <= epochs <= pretraining.epochs:
        raise ValueError(
            f"'rewind' of {epochs} epochs, and the pretraining has {pretraining.epochs}: allowed: 1 to "
            f"{pretraining.epochs}"
        )
    return pretraining.tail(pretraining.epochs - epochs)


def retraining(text: str, epochs: int, pretraining: LRSchedule | None) -> LRSchedule:
    """The schedule of a retraining that a recipe tells.

    Args:
      text: 'rewind' is ``rewound``. 'clr' is ``cyclic_restart`` between the lowest and the highest LR of the
        pretraining. 'clr(LOWEST,HIGHEST,SHARE)' states these, and the share of the epochs in which the LR rises.
      epochs: of the retraining.
      pretraining: its schedule. None where it is unknown, as of a base model from a file.

    Returns:
      A schedule of so many epochs.

    Raises:
      ValueError: the text is no recipe, the recipe asks for a pretraining that is unknown, or it can't be that long.

    Source: Le & Hua, "Network Pruning That Matters", ICLR 2021, arXiv 2105.03193, Fig. 1 b and d.

    Example:
      >>> before = LRSchedule.parse("0:0.1,60:0.01,80:0.001", 90)
      >>> str(retraining("clr", 40, before))
      '0:linear(0.001,0.1),4:cosine(0.1,0.001)'
    """
    found = re.fullmatch(r"(rewind|clr)(?:\(([^()]*)\))?", text.strip())
    if found is None or (found[1] == "rewind" and found[2] is not None):
        raise ValueError(f"{text!r} is no schedule; {GRAMMAR}")
    if found[1] == "clr" and found[2] is not None:
        low, high, *share = _numbers(text, found[2])
        return cyclic_restart(epochs, high, low, **({"warm_up_share": share[0]} if share else {}))
    if pretraining is None:
        raise ValueError(
            f"{text!r} is told by the LRs of a pretraining, and there is none: begin with 'pretrain', or give LRs, "
            "such as '0:1e-2' or 'clr(1e-3,1e-1)'"
        )
    if found[1] == "rewind":
        return rewound(pretraining, epochs)
    rates = [pretraining.at(epoch) for epoch in range(pretraining.epochs)]
    return cyclic_restart(epochs, max(rates), min(rates))


def _numbers(text: str, arguments: str) -> list[float]:
    try:
        numbers = [float(part) for part in arguments.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not 0 < numbers[0] <= numbers[1]:
        raise ValueError(f"{text!r} is no schedule; {GRAMMAR}, with 0 < LOWEST <= HIGHEST")
    return numbers
