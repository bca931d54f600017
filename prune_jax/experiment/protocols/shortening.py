"""The paper's epochs divided for a run at toy size: ``config.shorten``."""

from ml_collections import ConfigDict

from prune_jax.schedules import LRSchedule, half_up, resize


def divisor(config: ConfigDict) -> float:
    """``config.shorten``. ValueError when it is below 1."""
    if not config.shorten >= 1:
        raise ValueError(f"shorten is {config.shorten}; it divides the paper's epochs, so it is at least 1")
    return float(config.shorten)


def epochs(count: float, by: float) -> int:
    """``count`` of the paper's epochs as ours: divided, rounded, at least one."""
    return max(1, half_up(count / by))


def schedule(config: ConfigDict, key: str, by: float = 1.0) -> LRSchedule:
    """``config[key]``'s schedule over its epochs, divided ``by``. ValueError naming the key for a bad one."""
    section = config[key]
    try:
        whole = LRSchedule.parse(section.schedule, section.epochs)
    except ValueError as error:
        raise ValueError(f"{key}.schedule (with {key}.epochs={section.epochs}): {error}") from error
    return resize(whole, epochs(whole.epochs, by))
