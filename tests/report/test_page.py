"""``report.html``: its rows by hand, equal bytes, and in Chromium its filters and an empty console."""

import browser
import pytest
from test_report import record

from prune_jax.report import opening, page


def runs():
    return [record(0.01, 2, (80.0, 60.0)), record(0.001, 2, (70.0, 50.0), method="</script>random")]


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


@pytest.mark.slow
def test_filters_leave_the_chosen_runs_alone(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.html("T", runs()), encoding="utf-8")
    with browser.opened(path) as (tab, said):
        tab.wait_for_function("window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle")
        kept = """async ([name, value]) => {
          const [doc] = Bokeh.documents;
          doc.get_model_by_name(name).value = value;
          await new Promise((done) => setTimeout(done, 100));  // Bokeh calls back later
          const figure = doc.get_model_by_name("test_accuracy");
          return figure.renderers.map(r => r.data_source.data.run.filter((_, i) => r.view.filter.booleans[i]).length);
        }"""
        assert tab.evaluate(kept, ["lr", ["0.01"]]) == [2, 6]
        assert tab.evaluate(kept, ["method", ["</script>random"]]) == [0, 0]
        assert tab.evaluate(kept, ["lr", []]) == [2, 6]
        assert [line for line in said if line.startswith(("error", "fetched"))] == []
