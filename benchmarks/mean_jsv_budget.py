"""Which way to the mean Jacobian singular value of a data set has the least error at a budget of pull-backs.

python -m benchmarks.mean_jsv_budget [--quick] [--out results/mean_jsv_budget.json]

The candidates, each over 30 keys at equal budgets:
- exact: exact spectra of as many random examples as the budget buys;
- leading: of fewer, and of all others the singular values along a few shared output directions, with a regression
  between the two; the number of directions is the best one afterwards, a choice that no real run has;
- quadrature: one random probe of Lanczos steps on each of more examples, its value between Gauss's and Gauss-Radau's
  rule as ``prune_jax.trainability.quadrature`` has it; the number of steps is the best one afterwards as well, so that
  its rivals lose to nothing but the method;
- default: ``mean_jsv_estimate`` itself, on the network.

All but the last are computed anew in mean_jsv_methods, in NumPy float64 from the Gram matrices J Jᵀ of all examples.
An exact spectrum counts as the pull-backs that it takes: as many as the layer before the logits has features, where
these are fewer.

The networks: ResNet-8 and an MLP (two hidden layers of 1,024), both trained on ten classes of MNIST for a few steps,
under random logits. ResNet-8 has K = 10, 100 and 1,000, the MLP K = 10 and 100. The MLP's outputs have full rank; those
of ResNet-8 have rank 64 at most. An MLP of 1,000 outputs is not measured: its tables take too long.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from benchmarks.mean_jsv_methods import DIRECTIONS, STEPS, Table, exact, leading, quadrature
from benchmarks.provenance import about
from benchmarks.tabled_network import feature_roots, from_table, images, trained_body, with_head
from prune_jax.trainability import jacobians, mean_jsv_estimate

SPECTRA = (2, 4, 16, 64, 128)  # budgets, in exact spectra
TRAINED = 60  # steps of training before the measurement


def judged(found, truth):
    """Root mean square error and mean error in % of the truth, and how often it lies within two errors."""
    found = [each for each in found if each is not None]
    if not found:
        return None
    values, errors = np.array(found, np.float64).T
    off = values / truth - 1
    return {
        "rmse": 100 * float(np.sqrt((off**2).mean())),
        "bias": 100 * float(off.mean()),
        "within 2 errors": float((np.abs(values - truth) <= 2 * errors + 1e-6 * truth).mean()),
    }


def best(candidates):
    known = {setting: found for setting, found in candidates.items() if found}
    if not known:
        return None
    setting = min(known, key=lambda s: known[s]["rmse"])
    return {**known[setting], "setting": setting}


def trial(name, apply, x, table, keys):
    n, truth, rows = len(x), table.means.mean(), []
    spread = 100 * float(table.means.std(ddof=1) / truth)
    print(f"{name}: spread between examples {spread:.1f} %, {table.rank} pull-backs each", flush=True)
    for budget in [spectra * table.rank for spectra in SPECTRA if 2 * spectra <= n]:
        over = lambda method, *more: judged(  # noqa: E731
            [method(table, budget, key, *more) for key in range(keys)],  # noqa: B023
            truth,
        )
        row = {
            "budget": budget,
            "exact": over(exact),
            "leading": best({q: over(leading, q) for q in DIRECTIONS}),
            "quadrature": best({m: over(quadrature, m) for m in STEPS}),
            "default": judged(by_default(apply, x, budget, keys), truth),
        }
        rows.append(row)
        print(shown(row), flush=True)
    return {
        "network": name,
        "examples": n,
        "pull-backs of one": table.rank,
        "spread, %": spread,
        "rows": rows,
    }


def by_default(apply, x, budget, keys):
    found = []
    for key in range(keys):
        try:
            estimate = mean_jsv_estimate(apply, x, budget=budget, key=jax.random.key(key), batch=len(x))
        except ValueError:  # under its least budget
            return []
        found.append((float(estimate.value), float(estimate.error)))
    return found


def shown(row):
    cells = [f"budget {row['budget']:>6}"]
    for method in ("exact", "leading", "quadrature", "default"):
        found = row[method]
        if found:
            setting = f" ({found['setting']})" if "setting" in found else ""
            cells.append(
                f"{method}{setting} {found['rmse']:.2f} % (bias {found['bias']:+.2f}) {found['within 2 errors']:.2f}"
            )
    return ", ".join(cells)


def resnets(examples, steps, outputs):
    (x, _), (train_x, train_y) = images(examples)
    params, stats = trained_body("resnet8", train_x, train_y, steps)
    roots = feature_roots("resnet8", params, stats, x, 32)
    for count in outputs:
        _, kernel = with_head("resnet8", params, stats, count)
        apply, inputs = from_table(roots, kernel)
        count_of_values = min(count, inputs.shape[1])
        kernel = np.asarray(kernel, np.float64)
        if count > len(kernel):  # W = Q R: R F has the singular values of W F without zeros
            kernel = np.linalg.qr(kernel.T, mode="r").T
        behind = np.einsum("fk,nfg->nkg", kernel, roots)
        yield f"ResNet-8, K = {count}", apply, inputs, Table(behind @ behind.swapaxes(1, 2), count_of_values)


def mlp(layers, x):
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer)
    return x @ layers[-1]


def mlps(examples, steps, outputs, width=1024):
    (x, _), (train_x, train_y) = images(examples)
    x, train_x = (np.pad(v[..., 0], ((0, 0), (2, 2), (2, 2))).reshape(len(v), -1) for v in (x, train_x))
    sizes, rng = (x.shape[1], width, width), np.random.default_rng(0)
    body = [
        jnp.asarray(rng.normal(size=s) * (2 / s[0]) ** 0.5, jnp.float32) for s in itertools.pairwise(sizes)
    ]
    layers = [*body, jnp.asarray(rng.normal(size=(width, 10)) / width**0.5, jnp.float32)]
    optimiser = optax.adam(1e-3)
    moments = optimiser.init(layers)

    @jax.jit
    def step(layers, moments, images, labels):
        loss = lambda w: optax.softmax_cross_entropy_with_integer_labels(mlp(w, images), labels).mean()  # noqa: E731
        moved, moments = optimiser.update(jax.grad(loss)(layers), moments)
        return optax.apply_updates(layers, moved), moments

    for _ in range(steps):
        rows = rng.integers(0, len(train_x), 32)
        layers, moments = step(layers, moments, train_x[rows], train_y[rows])
    for count in outputs:
        head = jnp.asarray(rng.normal(size=(width, count)) / width**0.5, jnp.float32)
        apply = Partial(mlp, [*layers[:-1], head])
        rows = [
            np.asarray(jacobians(apply, jnp.asarray(x[i : i + 8])), np.float64) for i in range(0, len(x), 8)
        ]
        grams = np.concatenate([np.einsum("kbd,lbd->bkl", r, r, optimize=True) for r in rows])
        yield f"MLP, K = {count}", apply, jnp.asarray(x), Table(grams, count)


NETWORKS = {"resnet": (resnets, (10, 100, 1000)), "mlp": (mlps, (10, 100))}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="64 examples, 5 keys, K = 10 alone")
    parser.add_argument("--only", choices=tuple(NETWORKS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    examples, keys = (64, 5) if arguments.quick else (256, 30)
    start, found, told = time.perf_counter(), [], about("benchmarks.mean_jsv_budget")
    for name, (make, outputs) in NETWORKS.items():
        if arguments.only in (None, name):
            for case in make(examples, TRAINED, (10,) if arguments.quick else outputs):
                found.append(trial(*case, keys))
    seeds = {"networks and data": 0, "heads of ResNet-8": 1, "keys of each method": [0, keys - 1]}
    result = {**told, "seeds": seeds, "trials": found, "seconds": round(time.perf_counter() - start)}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
