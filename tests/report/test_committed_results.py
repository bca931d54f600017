"""What README, pages of docs and the configs quote of committed results is what their records say."""

import functools
import itertools
import pathlib
import re
import statistics

import pytest

from prune_jax import fairness
from prune_jax.report import controls, damage, reading

ROOT = pathlib.Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs/paper.md").read_text().split())


@functools.cache
def records_of(name):
    """The committed records of a config; nothing changes them."""
    return tuple(fairness.read_folder(ROOT / "results" / name / "records"))


def test_masks_of_single_weights():
    records = records_of("unstructured")
    groups = [g for g in fairness.rank(records).groups if "sparsegpt" in {r.method for r in g.records}]
    assert {group.setup for group in groups} == {"S4.2"}
    told = {}
    for group in groups:
        names = [(r.method, r.axes.granularity) for r in group.records]
        ratio = group.records[0].axes.ratio
        for (i, j), p in group.ps.items():
            if p < 0.05 and "random" not in (names[i][0], names[j][0]):
                told[ratio, names[i][0], names[j][0]] = p
    assert list(told) == [("0.9", "sparsegpt", "l1")]
    means = {(r.axes.ratio, r.method, r.axes.granularity): r for g in groups for r in g.records}
    best, plain = (means["0.9", name, "unstructured"] for name in ("sparsegpt", "l1"))
    a, b = (sum(r.accuracies) / len(r.accuracies) for r in (best, plain))
    assert f"({a:.2f} against {b:.2f} %, p = {told['0.9', 'sparsegpt', 'l1']:.3f})" in TEXT


def test_before_retraining_sparsegpt_is_ahead_of_magnitude_but_at_the_highest_ratio():
    after = {}
    for record in records_of("unstructured"):
        if record.axes.granularity == "unstructured":
            starts = [result.epochs[0].test_accuracy for result in record.results]
            after[record.axes.ratio, record.method] = sum(starts) / len(starts)
    ahead = [after[ratio, "sparsegpt"] > after[ratio, "l1"] for ratio in ("0.5", "0.8", "0.9", "0.95")]
    assert ahead == [True, True, True, False]
    assert f"({after['0.8', 'sparsegpt']:.1f} against {after['0.8', 'l1']:.1f} % at 0.8)" in TEXT


def methods_groups():
    """(ratio, initial LR) -> group of ``configs/methods.py``'s results."""
    records = records_of("methods")
    groups = fairness.rank(records).groups
    assert {(group.setup, len(group.records)) for group in groups} == {("S4.2", 15)}
    return {(g.records[0].axes.ratio, reading.initial_lr(g.records[0])): g for g in groups}


def test_methods_are_told_apart_by_their_retraining_alone():
    groups = methods_groups()
    told = {key: sum(p < 0.05 for p in group.ps.values()) for key, group in groups.items()}
    assert {told[ratio, 1e-2] for ratio in ("0.5", "0.7", "0.9")} == {0}
    small = [told[ratio, 1e-3] for ratio in ("0.5", "0.7", "0.9")]
    assert "Retrained from 1e-3, {}, {} and {} pairs are.".format(*small) in TEXT


def test_methods_that_damage_more_gain_more_from_the_larger_lr():
    groups, rhos = methods_groups(), []
    for ratio in ("0.5", "0.7", "0.9"):
        found = damage.effects([*groups[ratio, 1e-2].records, *groups[ratio, 1e-3].records])
        assert len(found) == 15
        assert max(fairness.holm([effect.test.p for effect in found])) < 0.05
        assert all(effect.test.difference > 0 for effect in found)
        assert max(found, key=lambda effect: effect.damage).name == "channel_lasso"
        assert min(found, key=lambda effect: effect.test.difference).name == "channel_lasso"
        rhos.append(f"{damage.correlation(found)[0]:.2f}")
    assert f"Spearman's ρ = {', '.join(rhos)} at 0.5, 0.7, 0.9" in TEXT


def test_no_method_at_initialisation_is_told_apart_from_random():
    groups = fairness.rank(records_of("pruning_at_init")).groups
    assert sum(len(group.records) for group in groups) == 22
    assert min(p for group in groups for p in group.ps.values()) >= 0.05
    records = [r for group in groups for r in group.records if r.axes.granularity == "unstructured"]
    means = {(r.axes.ratio, r.method): statistics.mean(r.accuracies) for r in records}
    for ratio in ("0.5", "0.9"):
        names = [name for share, name in means if share.endswith(ratio)]
        (share,) = {share for share, _ in means if share.endswith(ratio)}
        far = [n for n in names if means[share, n] < means[share, "random at init"] - 1]
        assert far == ["grasp at init"]
        pair = means[share, "grasp at init"], means[share, "random at init"]
        assert "{:.2f} against {:.2f} % at {}".format(*pair, ratio) in TEXT


def test_fine_tuning_at_the_last_lr_is_behind_other_retrainings_at_the_highest_ratio():
    groups = fairness.rank_retrainings(records_of("rewinding")).groups
    assert [len(group.records) for group in groups] == [4] * 4
    told, means = {}, {}
    for group in groups:
        names = [record.name for record in group.records]
        means |= {r.name: statistics.mean(r.accuracies) for r in group.records}
        told |= {frozenset((names[i], names[j])): p for (i, j), p in group.ps.items() if p < 0.05}
    assert all("0.95" in name for pair in told for name in pair)
    for epochs in (10, 8):
        last = f"fine-tuning, 0.95, {epochs} epochs"
        others = [n for n in means if n.endswith(f"0.95, {epochs} epochs") and n != last]
        assert all(frozenset((last, other)) in told for other in others)
        span = f"{min(means[n] for n in others):.2f} to {max(means[n] for n in others):.2f} %"
        assert f"{means[last]:.2f} against {span} after {epochs}" in TEXT
    assert len(told) == 7  # beside these six only one pair
    early, rewound = "weights back to 0, 0.95, 10 epochs", "LRs back, 0.95, 10 epochs"
    p = told[frozenset((early, rewound))]
    assert f"({means[early]:.2f} against {means[rewound]:.2f} %, p = {p:.3f})" in TEXT


def text_of(name):
    """A file's words, without line breaks."""
    return " ".join((ROOT / name).read_text().split())


def mystery1(name, recovery="none"):
    """(ratio, LR, epochs) -> record."""
    return {
        (str(r.axes.ratio), reading.initial_lr(r), reading.epochs(r)): r
        for r in records_of(name)
        if r.config["sparsify"].get("recovery") == recovery
    }


def gaps(records, ratio, counts):
    """Accuracy under LR 1e-2 minus under 1e-3, as texts print it."""
    pairs = [[statistics.mean(records[ratio, lr, n].accuracies) for lr in (1e-2, 1e-3)] for n in counts]
    return [f"{large - small:+.1f}" for large, small in pairs]


def before_and_after(records, ratio):
    """Mean JSV of the base model and of what retraining starts from, means over seeds."""
    results = next(r for place, r in records.items() if place[0] == ratio).results
    return [
        statistics.mean(v)
        for v in zip(*((r.base_mean_jsv, reading.start_jsv(r)) for r in results), strict=True)
    ]


def test_the_gaps_of_mystery_1_on_the_mlp():
    plain, repaired = mystery1("mystery1_mlp7"), mystery1("mystery1_mlp7", "orthp")
    counts = (1, 3, 10, 30, 90)
    each = {ratio: gaps(plain, ratio, counts) for ratio in ("0.5", "0.7", "0.9")}
    orthp = gaps(repaired, "0.9", counts)
    config, readme, claims = map(text_of, ("configs/mystery1_mlp7.py", "README.md", "docs/paper.md"))
    assert f"with OrthP at ratio 0.9 {', '.join(orthp)};" in config
    assert f"without it {', '.join(each['0.9'])} at ratio 0.9" in config
    assert f"{', '.join(each['0.7'])} at 0.7, {', '.join(each['0.5'])} at 0.5." in config
    shown = {ratio: [gap.lstrip("+") for gap in found] for ratio, found in each.items()}
    assert f"the gap is {orthp[0].lstrip('+')} points after 1 epoch and {orthp[3]} after 30" in readme
    assert f"at ratio 0.5 from {shown['0.5'][0]} points to {shown['0.5'][3]}" in readme
    assert f"at 0.7 from {shown['0.7'][0]} to {shown['0.7'][4]} after 90" in readme
    assert f"gap {', '.join(each['0.5'][:4])} points" in claims
    assert f"gap {', '.join(orthp[:4])} points at 1, 3, 10, 30 epochs with OrthP" in claims
    assert f"without it still {each['0.9'][3]} at 30" in claims


def test_the_controls_of_mystery_1_on_the_mlp():
    fresh = gaps(mystery1("mystery1_mlp7", "reinit"), "0.9", (1, 3, 10, 30, 90))
    scaled = gaps(mystery1("mystery1_mlp7", "rescale"), "0.9", (1, 30))
    config, readme, claims = map(text_of, ("configs/mystery1_mlp7.py", "README.md", "docs/paper.md"))
    assert f"With `reinit` at ratio 0.9 {', '.join(fresh)}." in config
    assert f"closes it alike: {', '.join(fresh[:4])}." in claims
    assert f"{fresh[0].lstrip('+')} points after 1 epoch and {fresh[3]} after 30. `rescale`" in readme
    assert "falls from {} points to {}.".format(*(gap.lstrip("+") for gap in scaled)) in readme
    said = controls.controls(records_of("mystery1_mlp7"))
    counts = re.findall(r"Ratio (\S+): of 10 pairs .*? isometry in (\d+), .*? inherited in (\d+)", said)
    helps = {ratio: count for ratio, count, _ in counts}
    behind = {ratio: count for ratio, _, count in counts}
    assert (helps["0.9"], helps["0.7"], behind["0.9"]) == ("0", helps["0.5"], "0")
    assert f"beats it in {helps['0.9']} at ratio 0.9 and in {helps['0.7']} each at 0.7 and 0.5" in readme
    assert f"behind in {behind['0.7']} at 0.7 and in {behind['0.5']} at 0.5" in readme
    told = f"in {helps['0.9']} at 0.9, in {helps['0.7']} at 0.7 and in {helps['0.5']} at 0.5"
    assert told in claims


def test_the_jacobians_of_mystery_1_on_the_mlp():
    plain, repaired = mystery1("mystery1_mlp7"), mystery1("mystery1_mlp7", "orthp")
    dense = before_and_after(plain, "0.9")[0]
    after = [f"{before_and_after(plain, ratio)[1]:.2g}" for ratio in ("0.5", "0.7", "0.9")]
    assert f"mean JSV {dense:.2f} dense; {', '.join(after)} right after pruning" in text_of("docs/paper.md")
    assert f"falls from {dense:.2f} to {after[2]} at ratio 0.9" in text_of("README.md")
    config = text_of("configs/mystery1_mlp7.py")
    assert f"mean JSV {dense:.2f} before, {after[2]} after pruning at ratio 0.9" in config
    assert f"{before_and_after(repaired, '0.9')[1]:.2f} after OrthP" in config


def test_mystery_1_on_the_resnet():
    records, counts = mystery1("mystery1_convnet"), (1, 3, 10)
    text = text_of("configs/mystery1_convnet.py")
    dense, after = before_and_after(records, "0.9")
    assert f"mean JSV {dense:.2f} before, {after:.2f} right after pruning" in text
    pairs = [[statistics.mean(records["0.9", lr, n].accuracies) for lr in (1e-2, 1e-3)] for n in counts]
    first, *rest = pairs
    assert f"{first[0]:.1f} and {first[1]:.1f} % after 1 epoch" in text
    for (large, small), count in zip(rest, counts[1:], strict=True):
        assert f"{large:.1f} and {small:.1f} after {count}" in text
    found = gaps(records, "0.9", counts)
    assert f"{found[0]}, {found[1]} and {found[2]} points" in text
    assert f"{', '.join(found)} points for LR 1e-2 over 1e-3 at 1, 3, 10 epochs" in TEXT
    longest = [records["0.9", lr, 10] for lr in (1e-2, 1e-3)]
    first_stage = [statistics.mean(reading.trainability_accuracies(r)) for r in longest]
    assert f"Trainability accuracy {first_stage[0]:.1f} and {first_stage[1]:.1f} in the runs of 10" in text


@pytest.mark.parametrize("place", ["docs/experiments.md", "docs/paper.md"])
def test_lr_stages_until_plateaus(place):
    records = records_of("plateau_mlp7")
    ratios = ("0.5", "0.7", "0.9")
    spread, lasted = {}, {}
    for ratio in ratios:
        for rule in (False, True):
            group = [
                r for r in records if str(r.axes.ratio) == ratio and reading.last_stage(r).by_rule == rule
            ]
            means = [statistics.mean(r.accuracies) for r in group]
            spread[ratio, rule] = f"{max(means) - min(means):.1f}"
            lasted[ratio, rule] = f"{statistics.mean(n for r in group for n in reading.lengths(r)):.0f}"
    fixed, ended = ([spread[ratio, rule] for ratio in ratios] for rule in (False, True))
    text = text_of(place)
    assert f"{fixed[0]}, {fixed[1]} and {fixed[2]} points" in text
    assert f"to {ended[0]}, {ended[1]} and {ended[2]} at ratios" in text
    epochs = [lasted[ratio, True] for ratio in ratios]
    assert f"for {epochs[0]}, {epochs[1]} and {epochs[2]} epochs" in text


def test_mystery_2_on_lenet_names_what_is_at_chance_and_finds_no_gain():
    records = records_of("mystery2_convnet")
    stuck = {r.name: fairness.at_chance(r) for r in records if fairness.at_chance(r)}
    assert {str(r.axes.ratio) for r in records if r.name in stuck} == {"0.9"}
    assert [len(seeds) for seeds in stuck.values()] == [1] * 4
    assert "At 0.9 one of the three seeds of four runs stands at chance" in TEXT
    scratch = {str(r.axes.ratio): r for r in records if r.method == "scratch"}
    for record in records:
        if record.method != "scratch":
            test = fairness.welch(record.accuracies, scratch[str(record.axes.ratio)].accuracies)
            assert not (test.difference > 0 and test.p < 0.05)


def test_a_teacher_is_not_told_apart_from_longer_retraining():
    records = records_of("distillation")
    assert all(len(group.records) == 1 for group in fairness.rank(records).groups)
    groups = [g for g in fairness.rank_equal_compute(records).groups if len(g.records) > 1]
    assert [len(group.records) for group in groups] == [3, 3, 3]
    assert min(p for group in groups for p in group.ps.values()) >= 0.05
    means = {record.name: statistics.mean(record.accuracies) for record in records}
    taught = means["teacher at T=4, 0.9, 10 epochs"]
    alone = means["no teacher, equal compute, 0.9, 46 epochs"]
    assert f"(at 0.9: {taught:.2f} % with a teacher at temperature 4, {alone:.2f} % without)" in TEXT
    assert f"reaches {means['no teacher, 0.9, 10 epochs']:.2f} % there" in TEXT


def towards_the_cut():
    return {r.name: r for r in records_of("trained_towards_the_cut")}


def test_growing_penalties_take_the_lr_effect_away_and_training_as_long_does_not():
    records = [r for name, r in towards_the_cut().items() if " 0.9, " in name]
    found = {effect.large.name.split(" ")[0]: effect for effect in damage.effects(records)}
    corrected = dict(zip(found, fairness.holm([e.test.p for e in found.values()]), strict=True))
    gain = {name: effect.test.difference for name, effect in found.items()}
    assert f"plain L1 gains {gain['l1']:.1f} points from the larger retraining LR" in TEXT
    assert f"under no penalty gains {gain['trained_on']:.1f}." in TEXT
    assert f"still gain {gain['ssl']:.1f} and {gain['group_norm']:.1f}." in TEXT
    assert all(corrected[name] < 0.05 for name in ("l1", "trained_on", "ssl", "group_norm"))
    losses = [-gain[name] for name in ("greg1", "greg2", "tpp")]
    assert "GReg-1, GReg-2 and TPP lose {:.1f}, {:.1f} and {:.1f}, which is not".format(*losses) in TEXT
    assert all(corrected[name] >= 0.05 for name in ("greg1", "greg2", "tpp"))
    kept = [found[name].damage for name in ("tpp", "l1", "greg1")]
    told = "TPP keeps {:.2f} of the dense mean JSV, L1 {:.4f}. But GReg-1, which has no term for it, keeps {:.2f}"
    assert told.format(*kept) in TEXT


def test_keeping_trainability_does_not_do_what_recovering_it_does():
    for lr in ("0.01", "0.001"):
        end = f" 0.9, LR {lr}"
        group = next(
            g
            for g in fairness.rank(list(towards_the_cut().values())).groups
            if g.records[0].name.endswith(end)
        )
        at = {record.name.removesuffix(end): k for k, record in enumerate(group.records)}
        p = {frozenset(pair): value for pair, value in group.ps.items()}
        growing = [at[name] for name in ("tpp", "greg1", "greg2")]
        assert all(p[frozenset(pair)] >= 0.05 for pair in itertools.combinations(growing, 2))
        assert p[frozenset((at["l1+OrthP"], at["tpp"]))] < 0.01
    means = {name: statistics.mean(record.accuracies) for name, record in towards_the_cut().items()}
    both = [means[f"{name} 0.9, LR {lr}"] for name in ("l1+OrthP", "tpp") for lr in ("0.01", "0.001")]
    assert (
        "L1 with OrthP reaches {:.2f} and {:.2f} % from the two LRs, TPP {:.2f} and {:.2f} %".format(*both)
        in TEXT
    )


def test_at_equal_training_flops_gmp_leads_and_regrowing_is_not_told_apart_from_a_static_mask():
    records = records_of("sparse_training")
    behind, means = {}, {}
    for group in fairness.rank_equal_compute(records).groups:
        ratio, names = group.records[0].axes.ratio, [r.name.split(" ")[0] for r in group.records]
        p = {frozenset((names[i], names[j])): value for (i, j), value in group.ps.items()}
        assert len(p) == 10
        behind[ratio] = {name for name in names[1:] if p[frozenset((names[0], name))] < 0.05}
        means[ratio] = {r.name.split(" ")[0]: statistics.mean(r.accuracies) for r in group.records}
        assert names[0] == "gmp"
        assert all(p[frozenset((name, "static"))] >= 0.05 for name in ("rigl", "set"))
    assert behind == {"0.8": {"sfp"}, "0.9": {"rigl", "sfp"}, "0.95": {"rigl", "set", "sfp", "static"}}
    leads = [means[ratio]["gmp"] for ratio in ("0.8", "0.9", "0.95")]
    assert "{:.2f}, {:.2f} and {:.2f} % at 0.8, 0.9, 0.95".format(*leads) in TEXT
    last = [means["0.95"][name] for name in ("rigl", "set", "static")]
    assert "(at 0.95: {:.2f}, {:.2f}, {:.2f} %)".format(*last) in TEXT
