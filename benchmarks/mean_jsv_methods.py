"""Ways to the mean Jacobian singular value of a data set, in NumPy float64 from the Gram matrices of all examples.

The candidates of mean_jsv_budget. Each takes a table, a budget of pull-backs and a key, and gives the mean and its
standard error, or None where the budget doesn't do.
"""

import numpy as np

DIRECTIONS = (1, 2, 4, 8, 16, 32)
STEPS = (2, 3, 4, 6, 8, 12)
PILOT = 8
PROBES = 32


def sample_mean(values, population):
    """Mean and standard error of a random sample of a finite population (Cochran 1977, 2.5)."""
    left = max(1 / len(values) - 1 / population, 0.0)
    return values.mean(), np.sqrt(values.var(ddof=1) * left)


def exact(table, budget, key):
    rng = np.random.default_rng(key)
    drawn = min(len(table.means), budget // table.rank)
    if drawn < 2:
        return None
    return sample_mean(table.means[rng.permutation(len(table.means))[:drawn]], len(table.means))


def leading(table, budget, key, count):
    """Directions from a pilot of exact spectra, which the estimate doesn't use again."""
    n, rank = len(table.means), table.rank
    drawn = min(n, (budget - PILOT * rank - n * count) // max(rank - count, 1))
    if count >= rank or drawn < 8:
        return None
    if key not in table.piloted:
        table.piloted[key] = piloted(table, np.random.default_rng([1, key]))
    order = np.random.default_rng(key).permutation(n)
    easy = table.piloted[key][count][order]
    return regression(table.means[order[:drawn]], easy[:drawn], easy, n)


def piloted(table, rng):
    """Of all examples the sum of the values along the directions of a pilot: (n,) for each number of directions."""
    pilot = rng.permutation(len(table.means))[:PILOT]
    directions = np.linalg.eigh(table.grams[pilot].mean(0))[1][:, ::-1][:, : max(DIRECTIONS)]
    blocks = directions.T @ (table.grams @ directions)
    return {q: np.sqrt(np.maximum(np.linalg.eigvalsh(blocks[:, :q, :q]), 0)).sum(1) for q in DIRECTIONS}


def regression(values, easy, all_easy, n):
    """The line through the sample read at the mean of all; HC3 errors (MacKinnon and White 1985)."""
    centred, m = easy - easy.mean(), len(values)
    spread = max((centred**2).sum(), 1e-300)
    slope, step = (centred @ values) / spread, all_easy.mean() - easy.mean()
    leverage = np.minimum(1 / m + centred**2 / spread, 1 - 1e-3)
    residuals = (values - values.mean() - slope * centred) / (1 - leverage)
    weights = 1 / m + centred * step / spread
    return values.mean() + slope * step, np.sqrt((1 - m / n) * ((weights * residuals) ** 2).sum())


def quadrature(table, budget, key, steps):
    """One probe on each example drawn; what the truncation leaves counts with their spread."""
    n, probes = len(table.means), budget // (2 * steps - 1)
    if probes < 4 or steps > table.rank:
        return None
    rng = np.random.default_rng(key)
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

    r: the pull-backs of an exact spectrum. ``piloted``: by key, what ``leading`` has seen with it.
    """

    def __init__(self, grams, count):
        self.grams, self.rank, rng = grams, grams.shape[1], np.random.default_rng(1)
        self.piloted = {}
        spectra = np.array([np.linalg.eigvalsh(gram) for gram in grams])
        self.means = np.sqrt(np.maximum(spectra, 0)).sum(1) / count
        signs = rng.choice([-1.0, 1.0], (len(grams), self.rank, PROBES)).astype(grams.dtype)
        self.probed = np.stack([probed(*pair) for pair in zip(grams, signs, strict=True)]) * self.rank / count
