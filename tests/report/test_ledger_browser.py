"""The ledger in Chromium: what the page concludes is what Python concludes, and a person can click through it."""

import itertools
import json
import math
import random

import browser
import pytest
import random_records

from prune_jax import fairness
from prune_jax.fairness.comparison import TOO_WEAK
from prune_jax.report.ledger import gather, site

pytestmark = pytest.mark.slow
COUNT = 70  # random records
WINNING = [setup for setup in fairness.SETUPS if setup not in TOO_WEAK]


@pytest.fixture(scope="module")
def records():
    made = random_records.records(random.Random(7), COUNT)
    return [
        *made,
        *random_records.other_actions(),
        *fairness.published.records("table4")[:6],
        *fairness.published.records("pruningbench")[:3],
    ]


@pytest.fixture(scope="module")
def page(records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    for number, record in enumerate(records):
        fairness.write(record, folder / "runs" / "records" / f"{number:03d}.json")
    (folder / "runs" / "records" / "bad.json").write_text("{")
    path = site.write(folder / "site", gather.gather([str(folder / "runs")]))
    with browser.opened(path) as (page, said):
        yield page, said


def verdict_text(verdict):
    """A verdict as plain data."""

    def plain(broken):
        return {"field": broken.field, "a": broken.a, "b": broken.b}

    return {
        "breaks": {setup: list(map(plain, found)) for setup, found in verdict.breaks.items()},
        "differing": list(map(plain, verdict.differing)),
        "assumed": list(verdict.assumed),
        "strictest": verdict.strictest,
    }


def test_the_page_concludes_what_python_concludes(page, records):
    """Random pairs, each under a random required setup, and the published rows all with each other."""
    rng = random.Random(11)
    pairs = [tuple(rng.sample(range(COUNT), 2)) for _ in range(600)]
    pairs += itertools.combinations(range(len(random_records.CHANGES)), 2)
    pairs += list(itertools.permutations(range(COUNT, len(records)), 2))
    asked = [(a, b, rng.choice(WINNING)) for a, b in pairs]
    theirs = page[0].evaluate(
        "asked => asked.map(([a, b, required]) => Ledger.compared(a, b, required))", asked
    )
    reached, broke, winners = set(), set(), set()
    for (a, b, required), told in zip(asked, theirs, strict=True):
        ours = fairness.compare(records[a], records[b], required)
        assert told["sentence"] == ours.sentence
        assert told["verdict"] == verdict_text(ours.verdict)
        assert told["winner"] == ours.winner
        p = told["test"] and told["test"]["p"]
        if ours.welch is None or ours.welch.p is None:
            assert p is None
        else:
            assert math.isclose(
                p, ours.welch.p, rel_tol=1e-9
            )  # two ways to compute the beta function, in float64
        reached.add(ours.verdict.strictest)
        broke |= {broken.field.split(" (")[0] for found in ours.verdict.breaks.values() for broken in found}
        winners.add((ours.winner, required))
    assert reached == {None, *(s for s in fairness.SETUPS if s[1].isdigit())}, "the pairs leave a setup out"
    assert broke == {field for fields in fairness.SETUPS.values() for field in fields}, "or a field"
    assert {required for winner, required in winners if winner} == set(WINNING), "or a winner"
    assert any(" At chance: " in told["sentence"] for told in theirs), "or a run that learnt nothing"


@pytest.mark.parametrize(
    ("df", "t"), [(2, 0.0), (2, 1e-9), (2.5, 1.3), (4, 30.0), (300, 5.0), (1e4, 0.01), (3, 1e8)]
)
def test_the_p_of_the_page_at_the_ends(page, df, t):
    """Samples of n = df / 2 + 1 with equal stds have these degrees of freedom."""
    n = df / 2 + 1
    sides = [fairness.Sample(t * math.sqrt(2 / n), 1.0, n), fairness.Sample(0.0, 1.0, n)]
    told = page[0].evaluate("sides => Verdict.welch(...sides).p", [vars(side) for side in sides])
    assert math.isclose(told, fairness.welch(*sides).p, rel_tol=1e-9)


def test_numbers_are_rounded_as_python_rounds_them(page):
    rng = random.Random(3)
    values = [
        *(rng.random() * 10 ** rng.randint(-9, 0) for _ in range(500)),
        0.0,
        1.0,
        0.1,
        0.05,
        0.00995,
        0.0001,
    ]
    points = [*(rng.randrange(800) / 8 for _ in range(200)), *(rng.random() * 100 for _ in range(500))]
    told = page[0].evaluate("v => [v[0].map(Verdict.general2), v[1].map(Verdict.fixed2)]", [values, points])
    assert told == [[f"{value:.2g}" for value in values], [f"{value:.2f}" for value in points]]


def column(page, title):
    place = page.evaluate("title => LEDGER.columns.indexOf(title) + 1", title)
    return page.evaluate(
        "i => Ledger.grid.rows({ search: 'applied' }).data().toArray().map(row => row[i])", place
    )


def test_a_person_sorts_filters_picks_two_and_reads_the_sentence(page, records):
    page, said = page
    head = page.locator("th .dt-column-title", has_text="result")
    head.click()
    page.locator("#note", has_text="Sorted, not ranked").wait_for()  # it sorts after the click
    values = [value for value in column(page, "result") if value is not None]
    assert values == sorted(values)
    page.get_by_label("Search:").fill("resnet34")
    page.locator(".dt-info", has_text="filtered").wait_for()
    shown = column(page, "network")
    assert set(shown) == {"resnet34"}
    assert len(shown) == 6
    buttons = page.locator("button.pick")
    buttons.nth(0).click()
    buttons.nth(2).click()
    names = page.locator("#picked a").all_inner_texts()
    a, b = (next(r for r in records if r.name == name) for name in names)
    ours = fairness.compare(a, b)
    assert page.inner_text("#sentence") == ours.sentence
    assert page.inner_text("#strictest") == (ours.verdict.strictest or "none, not even S1")
    following = list(ours.verdict.breaks)[
        list(ours.verdict.breaks).index(ours.verdict.strictest or "S1") + bool(ours.verdict.strictest)
    ]
    assert page.inner_text("#next") == f"{following}: {'; '.join(map(str, ours.verdict.breaks[following]))}"
    page.select_option("#required", "SX-A")
    assert page.inner_text("#sentence") == fairness.compare(a, b, "SX-A").sentence
    linked = page.url
    page.click("#clear")
    assert page.is_hidden("#picked")
    page.goto("about:blank")
    page.goto(linked)  # a verdict has an address
    assert page.locator("#picked a").all_inner_texts() == names
    assert "bad.json is no JSON" in page.text_content("#problems")
    assert said == []


def test_a_ranking_shows_its_rows_in_the_order_of_python(page, records):
    page, said = page
    groups = [g for g in fairness.rank(records).groups if len(g.records) > 1]
    rankings = page.evaluate("() => LEDGER.rows.map(row => row[LEDGER.columns.length + 1])")
    shown = sorted({group for group in rankings if group})
    assert len(shown) == len(groups)
    wanted = {tuple(r.name for r in group.records) for group in groups}
    found = set()
    for group in shown:
        page.evaluate("group => Ledger.ranking(group)", group)
        found.add(tuple(column(page, "name")))
    page.click("#all")
    assert found == wanted
    assert len(column(page, "name")) == len(records)
    assert said == []


def test_the_table_of_setups_on_the_page_is_pythons(page):
    table = page[0].evaluate("LEDGER.table")
    assert table["setups"] == {setup: list(fields) for setup, fields in fairness.SETUPS.items()}
    assert json.dumps(table["winning"]) == json.dumps(WINNING)
