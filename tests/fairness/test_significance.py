"""Welch's test against SciPy and against the p-values recomputed for Table 4."""

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_jax.fairness.significance import Sample, welch

# Table 4: ratio -> scratch, best S4.2 row (mean, std of three runs) and the recomputed two-sided p.
TABLE4 = {
    0.10: ((83.68, 0.38), (84.24, 0.04), 0.124),
    0.30: ((83.31, 0.13), (84.01, 0.23), 0.017),
    0.50: ((82.90, 0.16), (83.87, 0.44), 0.049),
    0.70: ((82.45, 0.13), (82.93, 0.10), 0.008),
    0.90: ((79.37, 0.76), (80.41, 0.32), 0.127),
    0.95: ((76.67, 0.90), (77.64, 0.39), 0.194),
}


@pytest.mark.parametrize("ratio", TABLE4)
def test_table4_p_values(ratio):
    scratch, pruned, p = TABLE4[ratio]
    result = welch(Sample(*pruned, n=3), Sample(*scratch, n=3))
    assert round(result.p, 3) == p
    assert result.difference > 0
    oracle = scipy.stats.ttest_ind_from_stats(*pruned, 3, *scratch, 3, equal_var=False)
    np.testing.assert_allclose([result.t, result.p], [oracle.statistic, oracle.pvalue], rtol=1e-10)


def test_population_std_would_lose_the_claim_at_half():
    pruned, scratch, scale = (83.87, 0.44), (82.90, 0.16), (3 / 2) ** 0.5
    inflated = [Sample(mean, std * scale, 3) for mean, std in (pruned, scratch)]
    assert round(welch(*inflated).p, 3) == 0.075


values = st.lists(st.integers(0, 1000).map(lambda i: i / 10), min_size=2, max_size=6)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(values, values)
def test_samples_agree_with_scipy(a, b):
    result = welch(a, b)
    if len(set(a)) == len(set(b)) == 1:
        assert result.p is None
        assert result.why_not == "no spread in either sample"
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy warns when one side has no spread
        oracle = scipy.stats.ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(result.p, oracle.pvalue, rtol=1e-8)
    np.testing.assert_allclose(result.df, oracle.df, rtol=1e-8)
    assert welch(b, a).p == result.p
    assert welch(b, a).difference == -result.difference


@pytest.mark.parametrize(
    ("a", "b", "why_not"),
    [
        ([50.0], [51.0, 52.0], "n too small (n=1 and n=2, a test needs 2 runs a side)"),
        (
            Sample(78.18, None, 1),
            Sample(75.2, 0.23, 3),
            "n too small (n=1 and n=3, a test needs 2 runs a side)",
        ),
        (Sample(75.0), Sample(74.0), "std and n unstated"),
        (Sample(75.0, 0.1), Sample(74.0, 0.1, 3), "n unstated"),
        (Sample(75.0, None, 3), Sample(74.0, 0.1, 3), "std unstated"),
        ([50.0, 50.0], [51.0, 51.0], "no spread in either sample"),
    ],
)
def test_what_cannot_be_tested_says_why(a, b, why_not):
    result = welch(a, b)
    assert (result.t, result.df, result.p, result.why_not) == (None, None, None, why_not)


def test_sample_std_has_n_minus_one():
    sample = Sample.of([1.0, 2.0, 4.0])
    assert sample.std == pytest.approx(np.sqrt(7 / 3), rel=1e-12)
    assert Sample.of([1.0]) == Sample(1.0, None, 1)
    assert str(sample) == "2.33 ± 1.53 (n=3)"
    assert str(Sample(74.61)) == "74.61 (n=unstated)"
    with pytest.raises(ValueError, match="at least one run"):
        Sample.of([])
