"""Find inconsistencies in a table of pruning results, the paper's own among them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from prune_jax.fairness import cost_rules, pruningbench, published, ratio_rules, table_rules
from prune_jax.fairness.anomaly import Anomaly, Row
from prune_jax.fairness.cells import ACCURACY, read_row
from prune_jax.fairness.cost_rules import CostOf
from prune_jax.fairness.paper_costs import UNIFORM
from prune_jax.nearest import unknown

Check = Callable[[Sequence[Row], str, float], list[Anomaly]]


class Rule(NamedTuple):
    """A rule: the columns it needs, one of each group, and its function of rows, table and tolerance.

    ``every``: it needs them in every row. Else rows without them are passed over. ``check`` is None for 'costs', which
    needs the networks' costs as well.
    """

    needs: tuple[tuple[str, ...], ...]
    check: Check | None
    every: bool = False


def _exact(check: Callable[[Sequence[Row], str], list[Anomaly]]) -> Check:
    return lambda rows, table, _: check(rows, table)


_SPEEDUPS = ("speedup", "mac_speedup")
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "range": Rule(((*ACCURACY, "pruning_ratio"),), _exact(table_rules.in_range)),
        "fraction": Rule((ACCURACY,), _exact(table_rules.no_fractions)),
        "drop": Rule((ACCURACY, ("base_acc",), table_rules.CHANGE), _exact(table_rules.drop_follows)),
        "monotone": Rule((("pruning_ratio",), table_rules.RISING), _exact(table_rules.rising), every=True),
        "trainability": Rule(
            (("trainability_acc",), ("acc_mean",)), _exact(table_rules.below_last), every=True
        ),
        "rank": Rule((("rank",), ACCURACY), _exact(table_rules.ranks_follow)),
        "shrinking": Rule(
            (("method", "label"), _SPEEDUPS, ("params_left_m",)), _exact(table_rules.shrinking)
        ),
        "ratios": Rule((ratio_rules.COLUMNS,), ratio_rules.ratios_agree),
        "dense": Rule((("params_left_m",), ("params_left_pct",)), ratio_rules.one_dense_network),
        "costs": Rule((("network",), ("pruning_ratio",), (*table_rules.RISING, "flops_g")), None, every=True),
    }
)
# Tables 4, 5 and 8 name their network in the caption, not in a column.
CAPTIONED = MappingProxyType({"table4": "resnet34", "table5": "resnet34", "table8": "resnet34"})


def validate(
    rows: Sequence[Row],
    table: str = "table",
    *,
    network: str | None = None,
    costs: Mapping[str, CostOf] = UNIFORM,
    tolerance: float = 0.02,
    rules: Sequence[str] | None = None,
) -> tuple[Anomaly, ...]:
    """Check rows (column name -> number, text or None) by every rule whose columns are there, or by ``rules``.

    Numbers may be texts as papers print them: '92.34%', '2.1x', '92.3 ± 0.1', '-'. The rules:

    - 'range': accuracies in 0 to 100, ratios in 0 to 1, stds not negative. 'fraction': no accuracy of 0.76.
    - 'drop': printed change = pruned - base. 'rank': a better rank has a higher accuracy.
    - 'monotone': speedup and sparsity rise with the ratio. 'shrinking': params left fall with the speedup.
    - 'trainability': Eq. (1)'s mean below the last accuracy.
    - 'ratios': speedup, cuts and counts of FLOPs and params agree with each other in a row. 'dense': params left, in
      millions and in percent, are of one dense network.
    - 'costs': speedup, sparsity and FLOPs follow from the ratio through ``costs`` (network -> function of the ratio).
      ``network`` stands in for a missing column. Networks without costs are named once each, under 'unchecked'.

    Rounding is allowed for.

    Args:
      rows: one mapping for each row of the table.
      table: what messages call it.
      network: stands in for a missing column 'network'.
      costs: network -> function of the ratio that gives its cost.
      tolerance: relative, for 'ratios', 'dense' and 'costs'.
      rules: the rules to check. None: every rule whose columns are there.

    Returns:
      One ``Anomaly`` for each contradiction.

    Raises:
      KeyError: a rule is unknown, or a network has no costs while ``rules`` ask for 'costs'.
      ValueError: the table is empty, a column is missing, a cell is no number, or there is nothing to check.

    Example:
      >>> [str(found) for found in validate([{"method": "A", "acc": "76.1%", "base_acc": 77.0, "delta": -0.5}])]
      ['table, A: printed -0.50, expected -0.90 [drop]']
    """
    if not rows:
        raise ValueError(f"{table} has no rows")
    plain = [read_row(_named(row, network), f"{table}, row {i}") for i, row in enumerate(rows, start=1)]
    chosen = _applicable(plain, table, costs) if rules is None else tuple(rules)
    found: list[Anomaly] = []
    for rule in chosen:
        if rule not in RULES:
            raise KeyError(unknown("rule", rule, RULES))
        _require(plain, table, rule, asked=rules is not None)
        check = RULES[rule].check
        if check is not None:
            found.extend(check(plain, table, tolerance))
            continue
        if rules is not None:
            _require_costs(plain, table, costs)
        found.extend(cost_rules.costs_follow(plain, table, costs, tolerance))
    return tuple(found)


def validate_published(tolerance: float = 0.02) -> tuple[Anomaly, ...]:
    """Every contradiction found in the paper's tables and between them. ``docs/errata.md`` explains each."""
    found: list[Anomaly] = []
    for table in ("table4", "table5", "table6", "table7"):
        found.extend(
            validate(published.rows(table), table, network=CAPTIONED.get(table), tolerance=tolerance)
        )
    return (*found, *_against_curves(), *_conventions())


def validate_pruningbench(tolerance: float = 0.02) -> tuple[Anomaly, ...]:
    """Every contradiction found in PruningBench's leaderboards. ``docs/matched_macs.md`` lists them."""
    named = pruningbench.to_validate(published.rows(pruningbench.NAME))
    return validate(named, pruningbench.NAME, tolerance=tolerance)


def first_stage_mean(points: Sequence[Row], epochs: int) -> float:
    """Eq. (1) on a curve's points: mean test accuracy over epochs 1 to ``epochs``."""
    chosen = [point["test_acc_read"] for point in points if 1 <= point["epoch"] <= epochs]
    if len(chosen) != epochs:
        raise ValueError(f"the curve has {len(chosen)} of the first {epochs} epochs")
    return sum(chosen) / epochs


def _against_curves() -> list[Anomaly]:
    """Table 5's trainability accuracies against Eq. (1) on the unextended curves of Figures 2 and 3.

    A mean over 15 or 30 points read to 0.1 can't be off by a point. One point is the threshold.
    """
    printed = {row["label"]: row["trainability_acc"] for row in published.rows("table5")}
    points, found = published.rows("fig2_fig3_points"), []
    for panel in published.rows("fig2_fig3_summary"):
        if printed.get(panel["setup"]) is None:
            continue
        curve = [point for point in points if point["panel"] == panel["panel"]]
        mean = first_stage_mean(curve, int(panel["base_stage1_epochs"]))
        if abs(mean - printed[panel["setup"]]) > 1.0:
            value = f"{printed[panel['setup']]:.2f}"
            found.append(
                Anomaly("table5", "Eq. (1)", f"{panel['setup']} ({panel['panel']})", value, f"{mean:.2f}")
            )
    return found


def _conventions() -> list[Anomaly]:
    factors = {}
    for table in ("table4", "table6", "table7"):
        named = [_named(row, CAPTIONED.get(table)) for row in published.rows(table)]
        factors[table] = cost_rules.flops_convention(named, UNIFORM)
    if len(set(factors.values())) == 1:
        return []
    shown = ", ".join(f"{table}: {factor} x MACs" for table, factor in factors.items())
    return [Anomaly(", ".join(factors), "convention", "FLOPs", shown, "one convention")]


def _named(row: Row, network: str | None) -> Row:
    """The row with the printed ratio and the network under their plain names."""
    named = dict(row)
    if "pruning_ratio" not in row and "pruning_ratio_printed" in row:
        named["pruning_ratio"] = row["pruning_ratio_printed"]
    if "network" not in row and network is not None:
        named["network"] = network
    return named


def _applicable(rows: Sequence[Row], table: str, costs: Mapping[str, CostOf]) -> tuple[str, ...]:
    """The rules whose columns the first row has, or any row where a rule passes over rows without them."""
    rules = [
        name
        for name, rule in RULES.items()
        if any(_has(row, rule) for row in rows[: 1 if rule.every else None])
    ]
    known = any(row.get("network") in costs for row in rows)
    if not rules or (rules == ["costs"] and not known):
        needs = "; ".join(f"{name}: {_text(rule.needs)}" for name, rule in RULES.items())
        raise ValueError(f"{table} has nothing to check in {', '.join(sorted(rows[0]))}. Needed for {needs}")
    return tuple(rules)


def _has(row: Row, rule: Rule) -> bool:
    return all(set(either) & set(row) for either in rule.needs)


def _require(rows: Sequence[Row], table: str, rule: str, asked: bool) -> None:
    """Raise ValueError for a row without the columns of a rule that needs them in every row, or was asked for."""
    if not (RULES[rule].every or asked):
        return
    for number, row in enumerate(rows, start=1):
        for either in RULES[rule].needs:
            if not set(either) & set(row):
                raise ValueError(
                    f"{table}, row {number}: rule {rule!r} needs a column {' or '.join(either)}, "
                    f"it has {', '.join(sorted(row))}"
                )


def _require_costs(rows: Sequence[Row], table: str, costs: Mapping[str, CostOf]) -> None:
    for row in rows:
        if row["network"] not in costs:
            raise KeyError(f"{table}: {unknown('network', row['network'], costs)}")


def _text(needs: Sequence[Sequence[str]]) -> str:
    return " and ".join(" or ".join(either) for either in needs)
