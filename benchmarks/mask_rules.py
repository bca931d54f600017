"""A step under a mask rule, outside of its turns, beside the plain step: ratios from one run.

python -m benchmarks.mask_rules [--rules rigl set gmp] [--network mlp7_linear] [--steps 40] [--rounds 5] [--out FILE]

Epochs of the plain trainer and of each rule's take turns in one process, so that what else the machine does hits all of
them alike. The turns of a rule are planned beyond the steps that are timed; ``--turns`` times those too. Random images
of 28 x 28, batch 100, SGD with momentum 0.9, float32.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.provenance import about
from prune_jax import data, models
from prune_jax.experiment import networks, specs
from prune_jax.experiment.devices import strategy
from prune_jax.experiment.training import masking
from prune_jax.experiment.training import trainer as training_trainer
from prune_jax.pruning.mask_rules.table import begin

BATCH, SHAPE, RATIO = 100, (28, 28, 1), 0.9


def recipe_of(network, plan):
    """The trainer's recipe, plain or under a rule."""
    spec = specs.ModelSpec(network, SHAPE, 10)
    how = strategy.decide(jax.default_backend(), networks.is_convolutional(spec))
    images = specs.DataSpec("random", (0.5,), (0.5,))
    return training_trainer.Recipe(images, spec, BATCH, 0.9, 1e-4, how, masking=plan)


def plan_of(rule, steps, turns):
    """A plan whose turns lie beyond the timed steps, or every ten of these."""
    arguments = (("interval", 10 if turns else 10 * steps), ("ratio", RATIO))
    return masking.MaskPlan(specs.Masking(rule, ("*",), arguments), 40 * steps, steps)


def started(trainer, plan, network):
    """A state of one replica."""
    module = models.create(network, num_classes=10, input_shape=SHAPE, key=jax.random.key(0))
    variables = models.functional(module).variables
    if plan is None:
        return trainer.init(jax.tree.map(lambda leaf: leaf[None], variables))
    params, state = begin(masking.rule_of(plan), variables["params"], jax.random.key(1))
    variables = {**variables, "params": params}
    return trainer.init(*jax.tree.map(lambda leaf: leaf[None], (variables, *state)))


def case_of(network, rule, steps, turns):
    """A function that trains one epoch and returns its seconds a step."""
    plan = None if rule is None else plan_of(rule, steps, turns)
    trainer = training_trainer.make_trainer(recipe_of(network, plan))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * BATCH, *SHAPE)).astype(np.uint8)
    split = data.Split(images, rng.integers(0, 10, steps * BATCH).astype(np.int32))
    on = training_trainer.to_device(data.Dataset("random", split, split, 10))
    held = [started(trainer, plan, network)]
    keys, lrs = jnp.stack([jax.random.key(2)]), np.full(steps, 1e-3, np.float32)
    when = None if plan is None else masking.rule_of(plan).turns[:steps]

    def epoch():
        start = time.perf_counter()
        held[0], loss = trainer.epoch(held[0], on, keys, lrs, when)
        loss.block_until_ready()
        return (time.perf_counter() - start) / steps

    return epoch


def measured(network, rules, steps, rounds, turns):
    """Median seconds a step of the plain trainer (None) and of each rule's; the first round compiles and is dropped."""
    cases = {rule: case_of(network, rule, steps, turns) for rule in (None, *rules)}
    times = {rule: [] for rule in cases}
    for number in range(rounds + 1):
        for rule, epoch in cases.items():
            seconds = epoch()
            if number:
                times[rule].append(seconds)
    return {rule: statistics.median(each) for rule, each in times.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", nargs="+", default=["rigl", "set", "gmp"])
    parser.add_argument("--network", default="mlp7_linear")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", action="store_true", help="a turn every ten of the timed steps")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    told = about("benchmarks.mask_rules")
    found = measured(given.network, given.rules, given.steps, given.rounds, given.turns)
    ratios = {rule: found[rule] / found[None] for rule in given.rules}
    for rule, ratio in ratios.items():
        print(f"{rule}: {ratio:.3f} of the plain step's {found[None] * 1e3:.3f} ms")
    if given.out:
        seconds = {str(rule): value for rule, value in found.items()}
        given.out.write_text(
            json.dumps({**told, "seconds a step": seconds, "over plain": ratios}, indent=1) + "\n"
        )
    return ratios


if __name__ == "__main__":
    main()
