"""How a report opens, with what was run and what may be concluded, and how it ends, with versions and ids."""

from collections.abc import Sequence

from prune_jax import fairness
from prune_jax.fairness import Ranking, RunRecord
from prune_jax.text_table import markdown

MOST = 12  # groups of which a sentence is written
NONE = "Between no two of these runs does S3.2 hold, so of none can it be said that it is better."
NOTE = (
    "Of each group of runs between all of which S3.2 or a stricter setup holds: the first against the second. p: "
    "Welch's two-sided test, not corrected for the number of sentences."
)


def what_was_run(records: Sequence[RunRecord]) -> str:
    """One line: how many runs of how many seeds, which network, which data. '' without records."""
    if not records:
        return ""
    networks, data = (
        {getattr(record, name) or "unstated" for record in records} for name in ("network", "dataset")
    )
    seeds = sorted({len(record.results) for record in records})
    of_seeds = "-".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    runs = f"{len(records)} run{'s' * (len(records) > 1)} of {of_seeds} seed{'s' * (of_seeds != '1')}"
    return f"{runs}: {', '.join(sorted(networks))} on {', '.join(sorted(data))}."


def verdicts(groups: Sequence[Ranking]) -> str:
    """A sentence for each group of runs that are ranked together, then how many groups are left out."""
    several = [group for group in groups if len(group.records) > 1]
    if not several:
        return NONE
    lines = [f"- {fairness.compare(group.records[0], group.records[1]).sentence}" for group in several[:MOST]]
    if len(several) > MOST:
        lines.append(f"- {len(several) - MOST} more groups are left out here.")
    return "\n".join([*lines, "", NOTE])


def provenance(records: Sequence[RunRecord]) -> str:
    """Seeds, device, versions, commit, command, and the base models' ids. '' without records."""
    if not records:
        return ""
    first = records[0]
    versions = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    seeds = ", ".join(str(result.seed) for result in first.results)
    lines = [
        f"Data: {first.dataset}. Network: {first.network}. Seeds: {seeds}. Device: {first.device}.",
        f"Versions: {versions}. Commit: {first.commit or 'unstated'}.",
        f"Command: `{first.command}`",
        _base_ids(records),
    ]
    return "\n\n".join(line for line in lines if line)


def _base_ids(records: Sequence[RunRecord]) -> str:
    firsts = [record.stages[0] for record in records if record.stages]
    ids = dict.fromkeys(stage.ids for stage in firsts if stage.kind == "pretrain" and stage.ids)
    return markdown(["base models (one id a seed)"], [[" ".join(each)] for each in ids]) if ids else ""
