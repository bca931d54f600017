"""Mean Jacobian singular value of ResNet-56 over 512 examples: error against pull-backs, method by method.

python -m benchmarks.jacobian_matrix_free [--quick] [--train-steps 60] [--out results/jacobian_matrix_free]

Writes OUT.json and OUT.png. What is compared, K = 100 and K = 1,000 outputs:
- exact: exact spectra of as many random examples as the budget buys, K pull-backs each, the honest rival;
- exact from features: the same by 64 pull-backs each, as ``spectrum`` takes them (see ``linear_ends``);
- auto: the default of ``mean_jsv_estimate``, exact spectra of fewer examples or leading directions, by a pilot within
  the budget. Committed curves of Lanczos quadrature are of a method that was dropped since (docs/trainability.md).

The network: ResNet-56 on packaged MNIST at 28 x 28, trained for a few steps on its ten classes (between-example
variance is small before training and large after), then given K random logits: nobody has to train 1,000
classes for its Jacobian's size. The reference: a logit layer W after 64 features makes J = W F, so 64 pull-backs
of the features give the exact spectra of all examples for any K; exact spectra of 512 examples by 1,000
pull-backs each would take half an hour here. The curves repeat each method over keys on those very Jacobians
(F of every example, in a table); wall times are those of the network itself, the exact one's measured on a few
examples and scaled to all.
"""

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.provenance import about
from benchmarks.tabled_network import feature_roots, from_table, images, trained_body, with_head
from prune_jax.trainability.jacobian import jacobian_singular_values, jacobians
from prune_jax.trainability.mean_estimate import mean_jsv_estimate, plan_mean_jsv

GOALS = {100: 8, 1000: 50}
METHODS = {
    "exact": ("s--", "exact, fewer examples, K pull-backs each"),
    "exact from features": ("d--", "exact, fewer examples, 64 pull-backs each"),
    "auto": ("o-", "default"),
}


def curves(roots, kernel, shares, keys):
    """For each budget (a share of exact's pull-backs): relative errors of each method over keys."""
    apply, x = from_table(roots, kernel)
    singular = np.linalg.svd(
        np.einsum("fk,nfg->nkg", np.asarray(kernel, np.float64), roots), compute_uv=False
    )
    n, outputs = x.shape[0], kernel.shape[1]
    values = min(outputs, x.shape[1])
    means = singular.sum(1) / values
    truth, spread = means.mean(), means.std(ddof=1) / means.mean()
    found = []
    for share in shares:
        budget = n * outputs // share
        row = {"share": share, "budget": budget}
        for rival, each in (("exact", outputs), ("exact from features", min(outputs, roots.shape[1]))):
            if budget >= 2 * each:  # the error of a random sample is known in closed form
                drawn = min(n, budget // each)
                row[rival] = {"error": spread * math.sqrt(max(1 / drawn - 1 / n, 0)), "examples": drawn}
        plan = plan_mean_jsv(apply, x, budget=budget, key=jax.random.key(share))
        found_means, errors = repeated(apply, x, plan, keys)
        off = np.asarray(found_means, np.float64) / truth - 1
        row["auto"] = {
            "error": float(np.sqrt(np.mean(off**2))),
            "stated": float(np.sqrt(np.mean(np.asarray(errors, np.float64) ** 2)) / truth),
            "plan": plan._asdict(),
            "pull_backs": at_once(plan),
        }
        found.append(row)
        line = ", ".join(f"{m} {100 * row[m]['error']:.2f} %" for m in METHODS if m in row)
        print(f"K = {outputs}, 1/{share}: {line} ({plan.method})", flush=True)
    return {"outputs": outputs, "truth": float(truth), "between_examples": float(spread), "budgets": found}


def at_once(plan):
    """Pull-backs of making and following a plan at once: its pilot is measured once."""
    return plan.pull_backs + (0 if plan.leading else plan.spent)


def repeated(apply, x, plan, keys):
    """Values and errors of a plan over many keys, one program."""

    def one(key):
        found = mean_jsv_estimate(apply, x, method=plan, key=key, batch=len(x))
        return found.value, found.error

    return jax.jit(partial(jax.lax.map, one))(keys)


def seconds(function):
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def scaled_seconds(function, factor):
    seconds(function)
    return seconds(function) * factor


def wall_times(apply, x, outputs, budget, truth, few, batch):
    """Wall time of the default on the network itself, and of exact spectra, scaled from a few examples.

    Exact twice: by K pull-backs of every example, and as ``spectrum`` does it, from as many as there are features.
    """
    rows = jnp.asarray(x[:few])
    exact_s = scaled_seconds(lambda: jacobians(apply, rows), len(x) / few)
    rows = jnp.asarray(x[: 2 * batch])
    narrow_s = scaled_seconds(lambda: jacobian_singular_values(apply, rows), len(x) / len(rows))
    x = jnp.asarray(x)
    make = partial(plan_mean_jsv, apply, x, budget=budget, batch=batch)
    make(key=jax.random.key(1))
    planning = time.perf_counter()
    plan = make(key=jax.random.key(2))
    planning = time.perf_counter() - planning
    follow = partial(mean_jsv_estimate, apply, key=jax.random.key(3), batch=batch)
    small, pictures = warm_up(plan, x, batch)
    seconds(lambda: follow(pictures, method=small)[:2])
    start = time.perf_counter()
    found = follow(x, method=plan)
    following = time.perf_counter() - start
    return {
        "plan": plan._asdict(),
        "pull_backs_with_planning": at_once(plan),
        "K pull-backs of every example, s": exact_s,
        "scaled from examples": few,
        "exact spectra from the features' pull-backs, s": narrow_s,
        "following_s": following,
        "planning_s": planning,
        "K pull-backs / following": exact_s / following,
        "K pull-backs / (planning + following)": exact_s / (following + planning),
        "exact from features / (planning + following)": narrow_s / (following + planning),
        "value / truth": float(found.value) / truth,
        "stated error / truth": float(found.error) / truth,
    }


def warm_up(plan, x, batch):
    """A plan on few examples that compiles all shapes that ``plan`` will meet."""

    def rest(count):
        return count if count <= batch else batch + count % batch

    examples = rest(plan.examples)
    others = rest(len(x) - plan.examples) if plan.method == "leading" else 0
    return plan._replace(examples=examples), x[: max(examples + others, plan.pilot)]


def draw(result, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(result["curves"]), figsize=(5.5 * len(result["curves"]), 4))
    for panel, curve in zip(np.atleast_1d(panels), result["curves"], strict=True):
        for name, (style, label) in METHODS.items():
            points = [
                (row[name].get("pull_backs", row["budget"]), 100 * row[name]["error"])
                for row in curve["budgets"]
                if name in row and row[name]["error"]  # all examples measured exactly: no error to draw
            ]
            panel.plot(*zip(*points, strict=True), style, label=label)
        panel.axhline(2, color="grey", linewidth=0.8)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel="pull-backs and push-forwards",
            ylabel="error of the mean JSV, %",
            title=f"K = {curve['outputs']:,}, {result['examples']} examples",
        )
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def verdict(times, curve, goal):
    """Whether the goal is met: 2 % (one standard error) at 1/goal of the time of K pull-backs, and of exact spectra's.

    The latter are the fairer rival: they take as many pull-backs as there are features, on all cores.
    """
    row = next(row for row in curve["budgets"] if row["share"] == goal * 3 // 2)
    error, ratio = row["auto"]["error"], times["K pull-backs / (planning + following)"]
    fair = times["exact from features / (planning + following)"]
    stated, off = times["stated error / truth"], abs(times["value / truth"] - 1)
    accurate = error <= 0.02 and stated <= 0.02 and off <= 3 * stated
    met, fairly = ("met" if accurate and times >= goal else "NOT met" for times in (ratio, fair))
    return (
        f"K = {curve['outputs']}: error {100 * error:.2f} % over keys, {100 * stated:.2f} % stated by the run on the "
        f"network ({100 * off:.2f} % off), at 1/{ratio:.0f} of the time of K pull-backs of every example "
        f"(goal 2 % at 1/{goal}): {met}; at 1/{fair:.1f} of that of exact spectra from the features: {fairly}"
    )


def run(arguments):
    quick = arguments.quick
    name, examples, outputs = ("resnet8", 256, (100,)) if quick else ("resnet56", 512, (100, 1000))
    start, batch = time.perf_counter(), 32
    (x, _), (train_x, train_y) = images(examples)
    params, stats = trained_body(name, train_x, train_y, 20 if quick else arguments.train_steps)
    roots = feature_roots(name, params, stats, x, batch)
    keys = jax.random.split(jax.random.key(0), 8 if quick else 24)
    result = {
        **about("benchmarks.jacobian_matrix_free"),
        "network": name,
        "train_steps": arguments.train_steps,
        "examples": examples,
        "reference": "exact, from 64 pull-backs of the features of every example; heads are random",
        "seeds": {"network and data": 0, "heads": 1, "keys of the default": 0},
        "curves": [],
        "times": [],
        "verdicts": [],
    }
    for count in outputs:
        apply, kernel = with_head(name, params, stats, count)
        goal = GOALS[count]
        # products one at a time are slower than exact's hundred at once: two thirds of the goal's budget
        spend = goal * 3 // 2
        shares = (goal, spend) if quick else (goal // 4, goal // 2, goal, spend, 2 * goal)
        curve = curves(roots, kernel, shares, keys)
        budget = examples * count // spend
        times = wall_times(apply, x, count, budget, curve["truth"], max(2, 1600 // count), batch)
        result["curves"].append(curve)
        result["times"].append(times)
        result["verdicts"].append(verdict(times, curve, goal))
        print(json.dumps(times, indent=1), result["verdicts"][-1], sep="\n", flush=True)
    result["seconds"] = time.perf_counter() - start
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ResNet-8, 256 examples, K = 100")
    parser.add_argument("--train-steps", type=int, default=60, help="0: an untrained network")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = run(arguments)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
        draw(result, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
