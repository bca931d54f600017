"""``report.html``: its rows by hand, equal bytes, and in Chromium its filters, what a point says, an empty console."""

import browser
import pytest
from test_report import record

from prune_jax.report import opening, page


def runs():
    return [record(0.01, 2, (80.0, 60.0)), record(0.001, 2, (70.0, 50.0), "0.5", "</script>random")]


def test_a_curve_says_run_seed_epoch_and_id():
    first, second = page.curves(runs()[0], "test_accuracy")
    assert first["epoch"] == [0, 1, 2]
    assert first["value"] == [0.0, 40.0, 80.0]
    assert (second["seed"], second["id"], second["lr"], second["ratio"]) == ("1", "id1", "0.01", "0.9")


def test_equal_records_give_equal_pages_and_none_without_curves():
    assert page.html("T & U", runs()) == page.html("T & U", runs())
    assert "<h1>T &amp; U</h1>" in page.html("T & U", runs())
    assert page.html("T", []) is None


def test_a_report_opens_with_what_was_run_and_says_where_nothing_may_be_ranked():
    assert opening.what_was_run(runs()) == "2 runs of 2 seeds: mlp7_linear on digits/split0."
    assert opening.what_was_run([]) == ""
    assert opening.verdicts([]) == opening.NONE


def test_choices_of_a_filter_stand_in_their_order():
    assert sorted(["l1", "0.95", "1e-3", "[0, 0.6]", "0.5"], key=page._by_value) == [
        "1e-3", "0.5", "0.95", "[0, 0.6]", "l1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.html("T", runs()), encoding="utf-8")
    with browser.opened(path) as (tab, said):
        tab.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        yield tab
        assert [line for line in said if line.startswith(("error", "fetched"))] == []


# How many curves and points are shown.
KEPT = """async () => {
  await new Promise((done) => setTimeout(done, 100));  // Bokeh calls back later
  const figure = Bokeh.documents[0].get_model_by_name("test_accuracy");
  return figure.renderers.map(r => r.data_source.data.run.filter((_, i) => r.view.filter.booleans?.[i] ?? true).length);
}"""


@pytest.mark.slow
def test_filters_leave_the_chosen_runs_alone(shown):
    ratio, lr, method = (shown.locator("select").nth(i) for i in range(3))
    assert shown.evaluate(KEPT) == [4, 12]
    lr.select_option("0.01")
    assert shown.evaluate(KEPT) == [2, 6]
    ratio.select_option("0.5")
    assert shown.evaluate(KEPT) == [0, 0]
    lr.select_option([])
    assert shown.evaluate(KEPT) == [2, 6]
    method.select_option("l1")
    assert shown.evaluate(KEPT) == [0, 0]
    ratio.select_option([])
    assert shown.evaluate(KEPT) == [2, 6]
    method.select_option([])
    assert shown.evaluate(KEPT) == [4, 12]


# Where on the page a point of the first panel lies, and where the panel's curves and its legend are.
PLACES = """([epoch, value]) => {
  const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("test_accuracy"));
  const [box, frame] = [view.el.getBoundingClientRect(), view.frame.bbox];
  const legend = Bokeh.index.find_one(view.model.above.find((each) => each.type === "Legend")).bbox;
  const at = [box.x + view.frame.x_scale.compute(epoch), box.y + view.frame.y_scale.compute(value)];
  return { at, curves: frame.top, legend: legend.bottom };
}"""
# What the tooltips say; Bokeh keeps them in shadow trees.
TOLD = """() => {
  const text = (node) => node.nodeType === 3 ? [node.data] : node.localName === "style" ? [] :
    [...(node.shadowRoot || node).childNodes].flatMap(text);
  const within = (node) => [...(node.shadowRoot || node).children].flatMap((each) =>
    each.classList.contains("bk-Tooltip") ? [text(each).map((t) => t.trim()).filter(Boolean)] : within(each));
  return within(document.body);
}"""


@pytest.mark.slow
def test_a_point_under_the_mouse_says_its_run_seed_epoch_and_id(shown):
    places = shown.evaluate(PLACES, [1, 30.0])  # the second seed of the first run
    assert places["legend"] <= places["curves"], "the legend covers curves"
    x, y = places["at"]
    shown.mouse.move(x - 5, y - 5)
    shown.mouse.move(x, y)
    shown.wait_for_function(f"({TOLD})().length")
    (told,) = shown.evaluate(TOLD)
    assert dict(zip(told[::2], told[1::2], strict=True)) == {
        "run:": "l1 0.01 2", "seed:": "1", "epoch:": "1", "id:": "id1", "ratio:": "0.9", "lr:": "0.01", "method:": "l1",
        "test accuracy (%):": "30",
    }  # fmt: skip
    shown.mouse.move(1, 1)


@pytest.mark.slow
def test_a_narrow_window_shows_the_whole_width(shown):
    before = shown.viewport_size
    shown.set_viewport_size({"width": 420, "height": 900})
    shown.wait_for_function("document.documentElement.scrollWidth <= 420")
    shown.set_viewport_size(before)
