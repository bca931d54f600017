"""What inheriting weights adds to isometry: OrthP beside its two controls, at every ratio, LR and length."""

from collections.abc import Sequence

from prune_jax.fairness import RunRecord
from prune_jax.report import reading, tables
from prune_jax.report.verdicts import LEVEL, Effect, effects
from prune_jax.text_table import markdown

FRESH, RESCALED, REPAIRED = "reinit", "rescale", "orthp"
NOTE = (
    "*orthp*: the pruned weights, orthogonalised. *reinit*: the same small network at random weights of its own "
    "law, nothing inherited. *rescale*: each pruned kernel times one number, so that its singular values have the "
    "mean square that orthp gives them; directions stay as pruning left them. Differences in points of test "
    "accuracy after the last epoch; p: Welch's two-sided test, corrected by Holm within each column of all rows. "
    "Inheriting helps beyond isometry where orthp − reinit is above 0 with p < 0.05. Isometry helps beyond scale "
    "where orthp − rescale is."
)

Place = tuple[str, float, int]


def controls(records: Sequence[RunRecord]) -> str:
    """A verdict on each ratio, then a table of all differences. '' where the controls weren't run."""
    found = beside_controls(records)
    if not found:
        return ""
    head = ["ratio", "LR", "epochs", "orthp − reinit", "p", "orthp − rescale", "p"]
    rows = [
        [
            ratio,
            f"{lr:g}",
            str(count),
            *(text for effect in pair for text in (f"{effect.difference:+.2f}", tables.p_text(effect.p))),
        ]
        for (ratio, lr, count), pair in found.items()
    ]
    return "\n\n".join(["\n".join(f"- {line}" for line in verdicts(found)), markdown(head, rows), NOTE])


def beside_controls(records: Sequence[RunRecord]) -> dict[Place, tuple[Effect, Effect]]:
    """(ratio, LR, epochs) -> OrthP minus the fresh control, and OrthP minus the rescaled one.

    Holm's step-down corrects the p of each column for all its rows.
    """
    arms: dict[str, dict[Place, RunRecord]] = {}
    for record in records:
        recovery = record.config.get("sparsify", {}).get("recovery")
        place = (str(record.axes.ratio), reading.initial_lr(record), reading.epochs(record))
        arms.setdefault(str(recovery), {})[place] = record
    repaired, fresh, rescaled = (arms.get(name, {}) for name in (REPAIRED, FRESH, RESCALED))
    places = [place for place in repaired if place in fresh and place in rescaled]
    inherited = effects([(repaired[place], fresh[place]) for place in places])
    isometric = effects([(repaired[place], rescaled[place]) for place in places])
    return dict(zip(places, zip(inherited, isometric, strict=True), strict=True))


def verdicts(found: dict[Place, tuple[Effect, Effect]]) -> list[str]:
    """A sentence a ratio: in how many of its cells inheriting helps, hurts, or can't be told from nothing."""
    lines = []
    for ratio in dict.fromkeys(place[0] for place in found):
        effects_here = [pair[0] for place, pair in found.items() if place[0] == ratio]
        helps, hurts = (sum(_shows(effect, sign) for effect in effects_here) for sign in (1, -1))
        rest = len(effects_here) - helps - hurts
        lines.append(
            f"Ratio {ratio}: of {len(effects_here)} pairs of LR and epochs, inheriting helps beyond isometry in "
            f"{helps}, does worse than nothing inherited in {hurts}, and can't be told from it in {rest}."
        )
    return lines


def _shows(effect: Effect, sign: int) -> bool:
    return effect.p is not None and effect.p < LEVEL and effect.difference * sign > 0
