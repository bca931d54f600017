"""Do printed costs follow from the printed ratio? If not: do they follow from another one?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from prune_jax.fairness.anomaly import Anomaly, Row

GRID = tuple(step / 20 for step in range(1, 20))
COLUMNS = ("pruning_ratio", "speedup", "sparsity_pct", "flops_g")
ROUNDING = 0.005 + 1e-9  # tables print two decimals


class Counted(Protocol):
    """Multiply-accumulates and params of a network at one ratio."""

    @property
    def macs(self) -> int:
        """Per sample."""

    @property
    def params(self) -> int:
        """With batch norm and biases, as tables count them."""


CostOf = Callable[[float], Counted]


def costs_follow(
    rows: Sequence[Row],
    table: str,
    costs: Mapping[str, CostOf],
    tolerance: float,
    grid: Sequence[float] = GRID,
) -> list[Anomaly]:
    """Check speedup, sparsity_pct and flops_g of each (network, ratio) against the network's own costs.

    A cell passes when it is the exact value rounded to two decimals, or within ``tolerance`` of it,
    relative. Where a column fails, it is matched with the ratios of ``grid``. Where all columns of a table
    fit others, one more anomaly gives the header that fits. A network without costs is named, not checked.
    """
    unknown = dict.fromkeys(row["network"] for row in rows if row.get("network") not in costs)
    found = [_unchecked(table, network, costs) for network in unknown]
    rows = [row for row in rows if row.get("network") in costs and _is_ratio(row.get("pruning_ratio"))]
    columns = {tuple(row.get(name) for name in ("network", *COLUMNS)): row for row in rows}
    fitted: dict[float, float | None] = {}
    for row in columns.values():
        network, ratio = row["network"], row["pruning_ratio"]
        wrong = _mismatches(row, costs[network], ratio, tolerance)
        if not wrong:
            continue
        fitted[ratio] = next((r for r in grid if not _mismatches(row, costs[network], r, tolerance)), None)
        hint = "" if fitted[ratio] is None else f" (the costs of ratio {fitted[ratio]:g})"
        for name, printed, exact in wrong:
            place = f"{network} @ {ratio:g} {name}"
            found.append(Anomaly(table, "costs", place, f"{printed:.2f}{hint}", f"{exact:.2f}"))
    if len(columns) == len(fitted) > 1 and None not in fitted.values():
        header = ["/".join(f"{ratio:g}" for ratio in ratios) for ratios in (fitted, fitted.values())]
        found.append(Anomaly(table, "costs", "header of the pruning ratio", *header))
    return found


def _unchecked(table: str, network: object, costs: Mapping[str, CostOf]) -> Anomaly:
    expected = f"a network whose costs are known ({', '.join(sorted(costs))}) or given as costs"
    return Anomaly(table, "unchecked", f"network {network} (left out)", str(network), expected)


def _is_ratio(value: object) -> bool:
    return isinstance(value, int | float) and 0.0 <= value < 1.0


def flops_convention(rows: Sequence[Row], costs: Mapping[str, CostOf]) -> int | None:
    """1 where printed FLOPs are multiply-accumulates, 2 where each counts twice, None where neither fits."""
    factors = set()
    for row in rows:
        ratio, printed = (0.0, row["base_flops_g"]) if "base_flops_g" in row else _pruned(row)
        exact = costs[row["network"]](ratio).macs / 1e9
        factors |= {factor for factor in (1, 2) if abs(printed - factor * exact) <= ROUNDING}
    return factors.pop() if len(factors) == 1 else None


def _pruned(row: Row) -> tuple[float, float]:
    return row["pruning_ratio"], row["flops_g"]


def _mismatches(row: Row, cost: CostOf, ratio: float, tolerance: float) -> list[tuple[str, float, float]]:
    dense, pruned = cost(0.0), cost(ratio)
    exact = {
        "speedup": [dense.macs / pruned.macs],
        "sparsity_pct": [100.0 * (1.0 - pruned.params / dense.params)],
        "flops_g": [pruned.macs / 1e9, 2.0 * pruned.macs / 1e9],
    }
    wrong = []
    for name, values in exact.items():
        printed = row.get(name)
        if printed is None:
            continue
        nearest = min(values, key=lambda value: abs(printed - value))
        if abs(printed - nearest) > max(ROUNDING, tolerance * nearest):
            wrong.append((name, printed, nearest))
    return wrong
