"""The trial of a mean JSV at a budget: its methods by independent oracles, and the page's table by its results."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mean_jsv_methods as methods

ROOT = Path(__file__).parents[1]
RESULT = json.loads((ROOT / "results/mean_jsv_budget.json").read_text())
SHOWN = (4, 16, 64, 128)  # budgets that the page shows, in exact spectra
N, K = 40, 6
JACOBIANS = np.random.default_rng(0).normal(size=(N, K, 30)) * np.linspace(0.2, 1.5, N)[:, None, None]
MEANS = np.linalg.svd(JACOBIANS, compute_uv=False).mean(1)


@pytest.fixture(scope="module")
def table():
    return methods.Table(JACOBIANS @ JACOBIANS.swapaxes(1, 2), K)


def test_all_examples_measured_exactly_are_the_svd_s_mean_without_an_error(table):
    np.testing.assert_allclose(table.means, MEANS, rtol=1e-12)
    np.testing.assert_allclose(methods.exact(table, N * K, 0), (MEANS.mean(), 0), rtol=1e-12)
    assert methods.exact(table, 2 * K - 1, 0) is None


def test_directions_tell_their_part_and_a_regression_beats_the_sample_that_it_is_made_of(table):
    gram = table.grams[np.random.default_rng([1, 3]).permutation(N)[: methods.PILOT]].mean(0)
    values, vectors = np.linalg.eigh(gram)
    along = vectors[:, np.argsort(-values)[:2]].T @ JACOBIANS
    easy = methods.piloted(table, np.random.default_rng([1, 3]))
    np.testing.assert_allclose(easy[2], np.linalg.svd(along, compute_uv=False).sum(1), rtol=1e-10)
    budget = (methods.PILOT + 12) * K + (
        N - 12
    ) * 2  # a pilot, twelve exact spectra, two directions of the others

    def off(method, *more):
        found = [method(table, budget, key, *more)[0] for key in range(20)]
        return np.sqrt(np.mean((np.array(found) / MEANS.mean() - 1) ** 2))

    assert off(methods.leading, 2) < off(methods.exact)


def test_lanczos_of_all_steps_is_the_quadratic_form_itself():
    gram = JACOBIANS[0] @ JACOBIANS[0].T
    values, vectors = np.linalg.eigh(gram)
    probes = np.random.default_rng(1).choice([-1.0, 1.0], (K, 5))
    unit = probes / K**0.5
    form = (unit * (vectors * np.sqrt(values) @ vectors.T @ unit)).sum(0)
    found = methods.probed(gram, probes)
    last = methods.STEPS.index(K)
    np.testing.assert_allclose(found[:, 0, last], form, rtol=1e-8)
    assert np.abs(found[:, 0, 0] / form - 1).max() > 1e-3  # two steps aren't all


def test_the_results_say_how_they_came_about():
    assert RESULT["command"] == "python -m benchmarks.mean_jsv_budget --out results/mean_jsv_budget.json"
    assert re.fullmatch("[0-9a-f]{40}", RESULT["commit"])  # no "-dirty": of what is committed
    assert {"python", "jax", "numpy"} <= set(RESULT["versions"])
    assert RESULT["device"].startswith("cpu")
    assert RESULT["seeds"]["keys of each method"] == [0, 29]


def digits(number):
    return f"{number:.2f}" if abs(number) < 1 else f"{number:.1f}"


def row_of(trial):
    """A line of the page's table, from the results."""
    rows = {row["budget"] // trial["pull-backs of one"]: row for row in trial["rows"]}

    def cell(method, what="rmse", shown=digits):
        return "; ".join(shown(rows[s][method][what]) if rows[s][method] else "-" for s in SHOWN)

    cells = [
        trial["network"].replace("1000", "1,000"),
        str(trial["pull-backs of one"]),
        cell("exact"),
        cell("quadrature"),
        cell("quadrature", "bias", lambda bias: f"{bias:+.1f}"),
        cell("quadrature", "setting", str),
        cell("leading"),
        cell("default"),
    ]
    return f"| {' | '.join(cells)} |"


def test_the_page_s_table_is_that_of_the_results():
    page = (ROOT / "docs/trainability.md").read_text().splitlines()
    for trial in RESULT["trials"]:
        assert row_of(trial) in page
    assert [t["network"] for t in RESULT["trials"]] == [
        *("ResNet-8, K = 10", "ResNet-8, K = 100", "ResNet-8, K = 1000"),
        *("MLP, K = 10", "MLP, K = 100"),
    ]
