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

All but the last are computed here anew, in NumPy float64 from the Gram matrices J Jᵀ of all examples. An exact spectrum
counts as the pull-backs that it takes: as many as the layer before the logits has features, where these are fewer.

The networks: ResNet-8 and an MLP (two hidden layers of 1,024), both trained on ten classes of MNIST for a few steps,
under random logits. K = 10, 100 and 1,000. The MLP's outputs have full rank; those of ResNet-8 have rank 64 at most.
The MLP of 1,000 outputs, whose tables take long, is measured by ``--thousand`` only, and without the default.
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from benchmarks.tabled_network import feature_roots, from_table, images, trained_body, with_head
from prune_jax.trainability import jacobians, mean_jsv_estimate

SPECTRA = (1, 2, 4, 8, 16, 32, 64, 128)  # budgets, in exact spectra
DIRECTIONS = (1, 2, 4, 8, 16, 32)
STEPS = (2, 3, 4, 6, 8, 12)
PILOT = 8
PROBES = 64


def sample_mean(values, population):
    """Mean and standard error of a random sample of a finite population (Cochran 1977, 2.5)."""
    left = max(1 / len(values) - 1 / population, 0.0)
    return values.mean(), np.sqrt(values.var(ddof=1) * left)


def exact(table, budget, rng):
    drawn = min(len(table.means), budget // table.rank)
    if drawn < 2:
        return None
    return sample_mean(table.means[rng.permutation(len(table.means))[:drawn]], len(table.means))


def leading(table, budget, rng, count):
    """Directions from a pilot of exact spectra, which the estimate doesn't use again."""
    n, rank = len(table.means), table.rank
    drawn = min(n, (budget - PILOT * rank - n * count) // max(rank - count, 1))
    if count >= rank or drawn < 8:
        return None
    pilot, order = rng.permutation(n)[:PILOT], rng.permutation(n)
    directions = np.linalg.eigh(table.grams[pilot].mean(0))[1][:, ::-1][:, :count]
    blocks = np.einsum("kq,nkl,lr->nqr", directions, table.grams, directions, optimize=True)
    easy = np.sqrt(np.maximum(np.linalg.eigvalsh(blocks), 0)).sum(1)[order]
    return regression(table.means[order[:drawn]], easy[:drawn], easy, n)


def regression(values, easy, all_easy, n):
    """The line through the sample read at the mean of all; HC3 errors (MacKinnon and White 1985)."""
    centred, m = easy - easy.mean(), len(values)
    spread = max((centred**2).sum(), 1e-300)
    slope, step = (centred @ values) / spread, all_easy.mean() - easy.mean()
    leverage = np.minimum(1 / m + centred**2 / spread, 1 - 1e-3)
    residuals = (values - values.mean() - slope * centred) / (1 - leverage)
    weights = 1 / m + centred * step / spread
    return values.mean() + slope * step, np.sqrt((1 - m / n) * ((weights * residuals) ** 2).sum())


def quadrature(table, budget, rng, steps):
    """One probe on each example drawn; what the truncation leaves counts with their spread."""
    n, probes = len(table.means), budget // (2 * steps - 1)
    if probes < 4 or steps > table.rank:
        return None
    rows = rng.permutation(n)[np.arange(probes) % n]
    numbers = (rng.integers(0, PROBES, n)[rows] + np.arange(probes) // n) % PROBES
    values, off = table.probed[rows, numbers, :, STEPS.index(steps)].T
    value, error = sample_mean(values, np.inf)
    return value, np.hypot(error, off.mean())


def probed(gram, probes):
    """uᵀ √G u along unit probes u (K, p) and what it may be off, after each of STEPS: (p, 2, STEPS).

    Lanczos with full reorthogonalisation, all probes at once; the rules of Golub and Meurant 2010, 6.2.
    """
    basis = [probes / np.linalg.norm(probes, axis=0)]
    most = min(max(STEPS), len(gram))
    tridiagonal = np.zeros((probes.shape[1], most, most))
    for step in range(most):
        moved = gram @ basis[-1]
        tridiagonal[:, step, step] = (basis[-1] * moved).sum(0)
        for _ in range(2):
            for vector in basis:
                moved = moved - vector * (vector * moved).sum(0)
        norm = np.linalg.norm(moved, axis=0)
        norm = np.where(norm > 1e-6 * tridiagonal[:, 0, 0], norm, 0)  # the space is exhausted
        basis.append(moved / np.where(norm > 0, norm, 1) * (norm > 0))
        if step + 1 < most:
            tridiagonal[:, step, step + 1] = tridiagonal[:, step + 1, step] = norm
    gauss = np.stack([rule(tridiagonal[:, :m, :m]) for m in range(1, most + 1)])
    radau = np.stack([rule(with_zero(tridiagonal[:, :m, :m])) for m in range(1, most + 1)])
    moved, radau_moved = (np.abs(np.diff(rules, axis=0)) for rules in (gauss, radau))
    share = moved / np.maximum(moved + radau_moved, 1e-300)
    value = gauss[1:] + share * (radau - gauss)[1:]
    off = np.minimum(share, 1 - share) * np.abs(gauss - radau)[1:] / 3**0.5
    at = [min(steps, most) - 2 for steps in STEPS]
    return np.stack([value[at], off[at]]).transpose(2, 0, 1)


def rule(tridiagonal):
    nodes, vectors = np.linalg.eigh(tridiagonal)
    return (vectors[:, 0] ** 2 * np.sqrt(np.maximum(nodes, 0))).sum(1)


def with_zero(tridiagonal):
    """The last entry lowered until 0 is an eigenvalue: Gauss-Radau's rule with a node there."""
    pivot = tridiagonal[:, 0, 0]
    for k in range(1, tridiagonal.shape[1]):
        pivot = tridiagonal[:, k, k] - tridiagonal[:, k, k - 1] ** 2 / np.where(pivot > 0, pivot, np.inf)
    found = tridiagonal.copy()
    found[:, -1, -1] -= np.maximum(pivot, 0)
    return found


class Table:
    """Gram matrices (n, r, r) of all examples, the true means over ``count`` values, and what probes would give.

    r: the pull-backs of an exact spectrum.
    """

    def __init__(self, grams, count):
        self.grams, self.rank, rng = grams, grams.shape[1], np.random.default_rng(1)
        spectra = np.array([np.linalg.eigvalsh(gram) for gram in grams])
        self.count = count
        self.means = np.sqrt(np.maximum(spectra, 0)).sum(1) / count
        signs = rng.choice([-1.0, 1.0], (len(grams), self.rank, PROBES)).astype(grams.dtype)
        self.probed = np.stack([probed(*pair) for pair in zip(grams, signs, strict=True)]) * self.rank / count


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
            [method(table, budget, np.random.default_rng(key), *more) for key in range(keys)],  # noqa: B023
            truth,
        )
        row = {
            "budget": budget,
            "exact": over(exact),
            "leading": best({q: over(leading, q) for q in DIRECTIONS}),
            "quadrature": best({m: over(quadrature, m) for m in STEPS}),
            "default": judged(by_default(apply, x, budget, keys), truth) if table.rank <= 100 else None,
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
        few = x if count <= 100 else x[:96]  # as many Gram matrices as fit memory
        rows = [np.asarray(jacobians(apply, jnp.asarray(few[i : i + 8]))) for i in range(0, len(few), 8)]
        grams = np.concatenate([np.einsum("kbd,lbd->bkl", r, r, optimize=True) for r in rows])
        grams = grams.astype(np.float64 if count <= 100 else np.float32)
        yield f"MLP, K = {count}", apply, jnp.asarray(few), Table(grams, count)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="64 examples, 5 keys, K = 10 alone")
    parser.add_argument("--thousand", action="store_true", help="the MLP of 1,000 outputs too")
    parser.add_argument("--only", choices=("resnet", "mlp"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    examples, keys, outputs = (64, 5, (10,)) if arguments.quick else (256, 30, (10, 100, 1000))
    start = time.perf_counter()
    parts = {"resnet": resnets, "mlp": mlps}
    found = []
    for name, make in parts.items():
        if arguments.only in (None, name):
            wanted = [k for k in outputs if k < 1000 or name == "resnet" or arguments.thousand]
            for case in make(examples, 60, wanted):
                found.append(trial(*case, keys))
    result = {
        "command": " ".join(["python -m benchmarks.mean_jsv_budget", *sys.argv[1:]]),
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "backend": jax.default_backend()},
        "keys": keys,
        "trials": found,
        "seconds": time.perf_counter() - start,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
