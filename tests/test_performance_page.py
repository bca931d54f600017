"""Every speed that the pages quote is what the results file beside it says."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = " ".join((ROOT / "docs/performance.md").read_text().split())

NETWORKS = ("resnet50", "vit_b16")


def result(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


def two_digits(value):
    """As the page rounds ratios: two digits, without an exponent."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def table(first):
    """The cells of the rows of the table whose head begins with this word, without its head."""
    lines = (ROOT / "docs/performance.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |")) + 2
    end = next(i for i in range(start, len(lines)) if not lines[i])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in lines[start:end]]


def peers():
    """The peer's time over ours, in the order of the page's first table."""
    steps, groups = result("train_step")["ratios"], result("coupling_groups")["best"]
    exact, chosen = result("jacobian")["ratios"], result("select")
    yield steps["mlp7: PyTorch step / our step"]
    yield steps["mlp7: four steps one after another / one step of four under vmap, two a core"]
    yield steps["resnet8: PyTorch step / our step"]
    pairs = [[groups[f"groups {side} {network}"] for side in ("peer", "ours")] for network in NETWORKS]
    for theirs, ours in pairs:
        for what in ("find_s", "find_again_s"):
            yield theirs[what] / ours[what]
    for theirs, ours in pairs:
        yield theirs["prune_s"] / ours["prune_s"]
    for work, names in {
        "mlp7_linear K=10 batch 100": ("loop", "loop_inputs", "torch_func"),
        "resnet56 K=10 batch 32": ("loop", "loop_inputs", "torch_func"),
        "resnet56 K=100 batch 8": ("loop", "loop_inputs"),
    }.items():
        for peer in names:
            yield exact[f"{work}: {peer} / ours, time"]
    for scores in ("different", "ties"):
        for peer in ("argsort", "jaxpruner"):
            yield chosen[scores]["times_select"][peer]


def test_the_table_of_peers():
    rows = table("what")
    assert [row[2] for row in rows] == [two_digits(value) for value in peers()]
    files = [name for row in rows for name in re.findall(r"\[(\w+)\.json\]", row[3])]
    assert files == ["train_step", "coupling_groups", "jacobian", "select"]


def test_time_per_equation_of_coupling():
    found = result("coupling_groups")["best"]["scaling ours"]
    each = {name: row["us_per_equation"] for name, row in found.items()}
    others = [value for name, value in each.items() if not name.startswith("llama")]
    assert f"takes {min(others):.0f} to {max(others):.0f} microseconds an equation on ResNets" in PAGE
    assert f"and {each['llama_7b']:.0f} on a decoder like Llama." in PAGE
    assert (
        f"takes {max(each.values()) / min(each.values()):.2f} times as long an equation as the easiest"
        in PAGE
    )
    deep = found["llama_46"]
    assert f"{deep['equations']:,} equations, takes {deep['seconds']:.2f} s" in PAGE


def test_scoring():
    found = result("criteria")["ratios"]
    for row in table("criterion"):
        ours = [found[f"{row[0]} ({over}): ours / the peer's"] for over in ("producer", "coupled")]
        assert row[1:] == [two_digits(1 / value) for value in ours]
    over_epoch = [found[f"{name}: scoring / a training epoch"] for name in ("taylor", "snip", "fisher")]
    assert "takes {:.2f} (`taylor`), {:.2f} (`snip`) and {:.2f} times (`fisher`)".format(*over_epoch) in PAGE


def test_mask_rules():
    over = result("mask_rules")["over plain"]
    rules = [over[name] for name in ("rigl", "set", "gmp")]
    assert "takes {:.2f} (RigL), {:.2f} (SET) and {:.2f} times (GMP) the plain step".format(*rules) in PAGE


def test_the_mean_jsv_at_a_budget():
    found = result("jacobian_matrix_free")
    examples, features = found["examples"], 64
    rows = {int(row[0].replace(",", "")): row[1:] for row in table("K")}
    for curve in found["curves"]:
        count = int(rows[curve["outputs"]][0])
        (point,) = (p for p in curve["budgets"] if p["auto"]["plan"]["examples"] == count)
        assert point["auto"]["plan"]["method"] == "exact"
        assert rows[curve["outputs"]][1:] == [
            f"{100 * point['auto']['stated']:.1f} %",
            f"{100 * point['auto']['error']:.2f} %",
            f"1/{examples * features / (count * features):.1f}",
            f"1/{int(examples * curve['outputs'] / (count * features))}",
        ]


def test_exact_spectra_beside_their_floor_and_their_memory():
    found = result("jacobian")
    over = {name.split(":")[0]: value for name, value in found["ratios"].items() if "ours / floor" in name}
    assert (
        f"{over['resnet56 K=10 batch 32']:.2f} times the floor at K = 10 and "
        f"{over['resnet56 K=100 batch 8']:.2f} times at K = 100"
    ) in PAGE
    assert f"{over['mlp7_linear K=10 batch 100']:.1f} times on MLP-7 that the file says" in PAGE
    small = [f"{over[f'resnet8 K=10 batch {batch}']:.1f}" for batch in (4, 8, 16, 32)]
    assert small[2] == small[3]
    assert "it is {} times at batch 4, {} at batch 8, and {} at batch 16 and 32".format(*small[:3]) in PAGE
    used = {name.removeprefix("jacobian_exact "): each for name, each in found["medians"].items()}
    first = used["ours resnet56 10 32"]["resident_mb"] / used["torch_func resnet56 10 32"]["resident_mb"]
    second = used["ours resnet56 100 8"]["resident_mb"] / used["loop_inputs resnet56 100 8"]["resident_mb"]
    assert f"takes {first:.2f} times what `torch.func` takes" in PAGE
    assert f"takes {second:.1f} times what the loop for inputs takes" in PAGE
    allotted = [used[f"ours resnet56 {work}"]["allotted_mb"] for work in ("10 32", "100 8")]
    assert "XLA allots {:.0f} and {:.0f} MB".format(*allotted) in PAGE


def test_convolutions_on_a_cpu():
    speed, scale = result("coupling")["best"], result("scale")["best"]
    dense = [speed[f"speed {side} dense 0"]["train_s"] for side in ("ours", "peer")]
    each = [dense[0] / dense[1]]
    for network in ("resnet56", "resnet34", "resnet50"):
        each.append(scale[f"{network} ours 1"]["step_s"] / scale[f"{network} peer 1"]["step_s"])
    assert [row[1] for row in table("training step")] == [f"{value:.1f}" for value in each]
    one = scale["resnet56 ours 1"]["step_s"]
    four, sixteen = (scale[f"resnet56 ours {n}"]["step_s"] / (n * one) for n in (4, 16))
    assert f"four of ResNet-56 take {four:.1f} times as long as one after another" in PAGE
    assert f"and sixteen {sixteen:.1f} times" in PAGE


def test_what_pruning_saves_and_masks_do_not():
    found = result("coupling")["ratios"]
    for row, ratio in zip(table("pruned"), (0.5, 0.7, 0.9), strict=True):
        assert row == [
            f"{100 * ratio:.0f} %",
            f"{found[f'resnet56 at {ratio}: MAC speedup']:.1f}",
            f"{found[f'resnet56 at {ratio}: ours small train speedup']:.2f}",
            f"{found[f'resnet56 at {ratio}: peer small train speedup']:.2f}",
        ]
    half = f"{found['resnet56 at 0.5: ours small train speedup']:.2f}"
    faq = " ".join((ROOT / "docs/faq.md").read_text().split())
    assert f"halves its MACs and makes a training step {half} times as fast" in faq
    scale, again = result("scale")["best"], result("scale_resnet50")["best"]
    masked = [
        best[f"{network} masked 1"]["step_s"] / best[f"{network} ours 1"]["step_s"]
        for best, network in ((scale, "resnet34"), (scale, "resnet50"), (again, "resnet50"))
    ]
    assert "{:.2f} times on ResNet-34 and {:.2f} on ResNet-50".format(*masked[:2]) in PAGE
    assert f"over more steps {masked[2]:.2f} on ResNet-50" in PAGE


def test_reading_images():
    found = result("input_pipeline")
    a_core = float(re.search(r"a core decodes and crops (\d+)", found["feeds"][0])[1])
    best = max(stream["images_per_second"] for stream in found["streams"] if stream["workers"] < 2)
    assert f"gives {a_core:.0f} to {best:.0f} images a second and core" in PAGE
    (alone,) = (stream["images_per_second"] for stream in found["streams"] if stream["workers"] == 0)
    cluster = " ".join((ROOT / "docs/cluster.md").read_text().split())
    assert f"a thread reads, about {round(alone, -2):.0f} images a second" in cluster
    taken = [float(value) for value in re.findall(r"takes ([\d.]+) images/s", " ".join(found["feeds"]))]
    assert f"take {min(taken):.0f} to {max(taken):.0f} of them" in PAGE


def test_the_page_of_trainability_quotes_the_default_as_its_results_have_it():
    page = " ".join((ROOT / "docs/trainability.md").read_text().split())
    curves = {curve["outputs"]: curve["budgets"] for curve in result("jacobian_matrix_free")["curves"]}

    def at(outputs, count):
        (point,) = (p for p in curves[outputs] if p["exact from features"]["examples"] == count)
        return 100 * point["auto"]["error"], 100 * point["exact from features"]["error"]

    default, formula = at(1000, 160)
    assert (
        f"an error of {default:.2f} % there, where the formula of exact spectra gives {formula:.2f} %" in page
    )
    default, formula = at(100, 200)
    assert f"it has {default:.2f} % instead of {formula:.2f} %" in page


def test_the_page_of_the_ledger():
    found, page = result("ledger"), " ".join((ROOT / "docs/ledger.md").read_text().split())
    spent = found["cpu_seconds"]
    assert found["records"] == 5000
    assert max(spent[step] for step in ("open", "sort", "filter", "pick")) < 1
    told = "Opening the page takes {open:.2f} CPU seconds, a sort {sort:.2f}, a filter {filter:.2f}, a pick {pick:.2f}."
    assert told.format(**spent) in page
    assert f"Building the site takes {spent['build']:.1f}." in page


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(\.\./(results/[\w.]+)\)", PAGE))))
def test_the_files_that_it_names_are_there(link):
    assert (ROOT / link).exists()


def test_penalties():
    ratios = result("regularizers")["ratios"]
    for name, *cells in table("penalty"):
        for network, cell in zip(("mlp7_linear", "resnet56"), cells, strict=True):
            over = ratios.get(f"{network}: ours {name.strip('`')} / plain")
            assert cell == ("-" if over is None else f"{over:.2f}"), (name, network)
    assert len(table("penalty")) == 5
    for peer, mine in (("growing_reg", "greg1"), ("group_norm", "group_norm")):
        times = ratios[f"resnet56: torch-pruning {peer} step / our {mine} step"]
        assert f"takes {two_digits(times)} times our `{mine}` step" in PAGE
    own = [ratios[f"resnet56: torch-pruning {peer} / plain"] for peer in ("growing_reg", "group_norm")]
    assert "its penalties take {:.2f} and {:.2f} times".format(*own) in PAGE
