"""What a criterion may look at, and how it is gathered over batches of data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from prune_jax.pruning.gathering.activations import Activation, activation_of, channel_sums, squared_means
from prune_jax.pruning.gathering.feature_maps import map_ranks
from prune_jax.pruning.gathering.float_leaves import float_leaves, like_params, of_floats, scaled
from prune_jax.pruning.gathering.second_order import (
    Fisher,
    example_squares,
    hessian_times,
    hutchinson,
    parts_of,
)
from prune_jax.pruning.gathering.synaptic_flow import flow_slopes
from prune_jax.pruning.inputs.products import traced
from prune_jax.pruning.inputs.sums import InputGram, KernelInput, kernel_sums
from prune_jax.pruning.jaxpr.groups import Group

__all__ = [
    "DATA_FREE",
    "NEEDS",
    "OF_GROUPS",
    "OF_KERNELS",
    "Activation",
    "Evidence",
    "Fisher",
    "InputGram",
    "KernelInput",
    "gather",
    "gatherer",
    "part_of",
]


class Evidence(NamedTuple):
    """What is known of a network when its weights or channels are scored.

    A criterion declares which of the fields after ``groups`` it needs. ``gather`` fills them.

    Attributes:
      params: any pytree of arrays. Float leaves of rank two or more are kernels.
      groups: the coupled groups of channels (``find_groups``). Empty where single weights are scored.
      key: a PRNG key, for criteria that draw.
      grads: pytree like ``params``, the mean gradient of the loss.
      grads_squared: pytree like ``params``, the mean of the squared gradient.
      activations: group name -> ``Activation`` of what the group's producer makes.
      example_activations: group name -> (channels,), the root of the sum over examples of (mean abs a) ** 2,
        the mean over the positions of one example.
      map_ranks: group name -> (channels,), the mean rank of the channel's feature maps over all examples.
        Groups without feature maps are left out (``feature_maps``).
      inputs: leaf path -> ``KernelInput``, what a kernel multiplies. Left out are kernels that meet data
        nowhere, in a loop of unknown length, or in two ways that lie differently in the leaf.
      input_grams: leaf path -> ``InputGram``, how these inputs go together.
      hessian_products: pytree like ``params``, an estimate of the Hessian's diagonal.
      hessian_gradient: pytree like ``params``, H g with the Hessian H and the gradient g of the mean loss.
      fisher: ``Fisher``, means over examples of squared gradients, of weights and of channels.
      synflow: pytree like ``params``, dR/dw / R of the network on ones (``synaptic_flow.flow_slopes``).

    Example:
      >>> params, batches = {"w": jnp.float32(2)}, [jnp.ones((4, 1))]
      >>> float(gather({"grads"}, params, batches, loss=lambda p, x: (p["w"] * x).mean()).grads["w"])
      1.0
    """

    params: Any
    groups: Sequence[Group] = ()
    key: jax.Array | None = None
    grads: Any = None
    grads_squared: Any = None
    activations: Any = None
    example_activations: Any = None
    map_ranks: Any = None
    inputs: Any = None
    input_grams: Any = None
    hessian_products: Any = None
    hessian_gradient: Any = None
    fisher: Any = None
    synflow: Any = None


NEEDS = frozenset(Evidence._fields) - {"params", "groups"}
DATA_FREE = frozenset({"key", "synflow"})  # what no batch is looked at for
_LIKE_PARAMS = frozenset({"grads", "grads_squared", "hessian_products", "hessian_gradient"})
_OF_LOSS = _LIKE_PARAMS | {"fisher"}
OF_GROUPS = frozenset({"activations", "example_activations", "map_ranks"})  # read of arrays, by group
OF_KERNELS = frozenset({"inputs", "input_grams"})  # read of arrays, by leaf


def part_of(evidence: Evidence, name: str) -> Evidence:
    """Evidence of one part of the params, such as 'params' of variables that hold batch statistics as well.

    Example:
      >>> variables = {"params": {"w": 1}, "batch_stats": {"mean": 2}}
      >>> part_of(Evidence(variables, grads=variables), "params").grads
      {'w': 1}
    """
    trees = {"params": evidence.params[name]}
    for field in (*_LIKE_PARAMS, "synflow"):
        if (tree := getattr(evidence, field)) is not None:
            trees[field] = tree[name]
    for field in OF_KERNELS:
        if (known := getattr(evidence, field)) is not None:
            inside = f"{name}/"
            trees[field] = {
                path.removeprefix(inside): one for path, one in known.items() if path.startswith(inside)
            }
    if evidence.fisher is not None:
        trees["fisher"] = evidence.fisher._replace(weights=evidence.fisher.weights[name])
    return evidence._replace(groups=(), **trees)


def gather(
    needs: Iterable[str], params: Any, batches: Iterable[Any], *, key: jax.Array | None = None, **how: Any
) -> Evidence:
    """``gatherer(needs, **how)(params, batches, key)``: evidence of one network."""
    return gatherer(needs, **how)(params, batches, key)


def gatherer(
    needs: Iterable[str],
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    apply: Callable[[Any, Any], Any] | None = None,
    groups: Sequence[Group] = (),
    per_example: bool = False,
    samples: int = 1,
    flow: Callable[[Any], Any] | None = None,
    at_a_time: int = 16,
) -> Callable[[Any, Iterable[Any], jax.Array | None], Evidence]:
    """A function that gathers evidence. It is compiled once for all networks and batches of equal shapes.

    All means weigh every example alike, so a smaller last batch counts less. Sums stay on the device,
    and nothing waits for it between batches. The gradient is of float leaves. Other leaves get zeros.

    Args:
      needs: fields of ``Evidence`` that are to be filled (a criterion's ``needs``).
      loss: ``loss(params, batch)`` -> scalar, the mean over the batch's examples.
      apply: ``apply(params, batch)`` -> outputs, for what is read of arrays. It picks the inputs from the batch.
      groups: whose activations are read.
      per_example: 'grads_squared' is the mean over examples of the squared gradient of each, with every example as a
        batch of one. It is the empirical Fisher's diagonal, and takes a batch times the memory of the gradient.
        Otherwise it is the mean over batches of the batch's squared mean gradient.
      samples: draws z of random signs per batch for 'hessian_products', which is the mean of
        z * (H z) with H the Hessian of the loss (Hutchinson's estimate of its diagonal).
      flow: ``flow(params)`` -> outputs of the network on ones, for 'synflow'.
      at_a_time: how many examples' gradients are held at the same time for 'fisher'.

    Returns:
      ``gathered(params, batches, key)`` -> ``Evidence``. ``batches`` is an iterable of pytrees whose
      leaves have the examples on their first axis. ``key`` is handed on, and draws the signs.

    Raises:
      ValueError: a need is no field of ``Evidence``, or the arguments can't give it.
    """
    wanted = frozenset(needs)
    _check(wanted, loss, apply, groups, samples, flow)
    slopes = flow_slopes(flow) if flow is not None and "synflow" in wanted else None

    @jax.jit
    def terms(params: Any, batch: Any) -> dict[str, Any]:
        out: dict[str, Any] = {"examples": jnp.float32(_examples(batch))}
        if wanted & {"grads", "grads_squared", "hessian_gradient"}:
            assert loss is not None
            out |= _gradient_terms(wanted, loss, params, batch, per_example)
        if wanted & (OF_GROUPS | OF_KERNELS):
            assert apply is not None
            out |= _array_terms(wanted, apply, params, groups, batch)
        return out

    @jax.jit
    def probe(params: Any, batch: Any, key: jax.Array) -> list[Any]:
        assert loss is not None
        return scaled(_examples(batch) / samples, hutchinson(loss, params, batch, key))

    @jax.jit
    def squares(params: Any, batch: Any) -> Any:
        assert loss is not None
        return example_squares(loss, params, groups, batch)

    @jax.jit
    def curved(params: Any, batch: Any, grads: list[Any], examples: Any) -> list[Any]:
        assert loss is not None
        return scaled(_examples(batch), hessian_times(loss, params, batch, scaled(1 / examples, grads)))

    def gathered(params: Any, batches: Iterable[Any], key: jax.Array | None = None) -> Evidence:
        if key is None and wanted & {"key", "hessian_products"}:
            raise ValueError(
                "a PRNG key is needed for 'key' and 'hessian_products': pass key=jax.random.key(seed)"
            )
        totals: dict[str, Any] = {}
        if "hessian_gradient" in wanted:
            batches = list(batches)  # looked at twice: the gradient of all of them comes first
        for number, batch in enumerate(batches if wanted - DATA_FREE else ()):
            totals = _plus(totals, terms(params, batch))
            for draw in range(samples if "hessian_products" in wanted else 0):
                signs = jax.random.fold_in(cast(jax.Array, key), number * samples + draw)
                totals = _plus(totals, {"hessian_products": probe(params, batch, signs)})
            for part in parts_of(batch, at_a_time) if "fisher" in wanted else ():
                totals = _plus(totals, {"fisher": squares(params, part)})
        if not totals and wanted - DATA_FREE:
            raise ValueError("there are no batches to gather evidence from; give at least one")
        for batch in batches if "hessian_gradient" in wanted else ():
            products = curved(params, batch, totals["grads"], totals["examples"])
            totals = _plus(totals, {"hessian_gradient": products})
        found = _evidence(params, groups, key, totals)
        return found if slopes is None else found._replace(synflow=slopes(params))

    return gathered


def _check(
    wanted: frozenset[str], loss: Any, apply: Any, groups: Sequence[Group], samples: int, flow: Any
) -> None:
    unknown = sorted(wanted - NEEDS)
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no field of evidence; needs are among {', '.join(sorted(NEEDS))}"
        )
    if loss is None and wanted & _OF_LOSS:
        raise ValueError(f"{min(wanted & _OF_LOSS)!r} needs a loss: pass loss=function(params, batch)")
    if wanted & OF_GROUPS and (apply is None or not groups):
        name = min(wanted & OF_GROUPS)
        raise ValueError(f"{name!r} needs apply=function(params, batch) and groups=find_groups(...)")
    if wanted & OF_KERNELS and apply is None:
        raise ValueError(f"{min(wanted & OF_KERNELS)!r} needs apply=function(params, batch)")
    if "synflow" in wanted and flow is None:
        raise ValueError("'synflow' needs flow=function(params), the network's outputs on ones")
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")


@jax.jit
def _add(one: Any, other: Any) -> Any:
    return jax.tree.map(jnp.add, one, other)


def _plus(totals: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Totals with new terms added, or begun."""
    both = {name: totals[name] for name in new if name in totals}
    return {**totals, **new, **_add(both, {name: new[name] for name in both})}


def _examples(batch: Any) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _gradient_terms(
    wanted: frozenset[str], loss: Callable, params: Any, batch: Any, per_example: bool
) -> dict[str, list[Any]]:
    """The batch's mean gradient and mean squared gradient, times its number of examples."""

    def gradient(batch: Any) -> list[Any]:
        return scaled(1, jax.grad(of_floats(loss, params))(float_leaves(params), batch))

    out = {"grads": gradient(batch)}
    if "grads_squared" in wanted and per_example:
        each = jax.vmap(lambda example: gradient(jax.tree.map(lambda x: x[None], example)))(batch)
        out["grads_squared"] = [(leaf * leaf).mean(0) for leaf in each]
    elif "grads_squared" in wanted:
        out["grads_squared"] = [leaf * leaf for leaf in out["grads"]]
    if not wanted & {"grads", "hessian_gradient"}:
        del out["grads"]
    return {name: scaled(_examples(batch), leaves) for name, leaves in out.items()}


def _array_terms(
    wanted: frozenset[str], apply: Callable, params: Any, groups: Sequence[Group], batch: Any
) -> dict[str, Any]:
    """Sums of what the network computes on the batch."""
    out: dict[str, Any] = {}
    if "activations" in wanted:
        out["activations"] = channel_sums(apply, params, groups, batch)
    if "example_activations" in wanted:
        out["example_activations"] = squared_means(apply, params, groups, batch)
    if "map_ranks" in wanted:
        out["map_ranks"] = map_ranks(apply, params, groups, batch)
    if wanted & OF_KERNELS:
        leaves = jax.tree.leaves((params, batch))
        inputs, grams = kernel_sums(traced(apply, params, batch), leaves, grams="input_grams" in wanted)
        out |= {"inputs": inputs} if "inputs" in wanted else {}
        out |= {"input_grams": grams} if "input_grams" in wanted else {}
    return out


def _evidence(params: Any, groups: Sequence[Group], key: Any, totals: dict[str, Any]) -> Evidence:
    def mean(sums: list[Any]) -> Any:
        return like_params(params, scaled(1 / totals["examples"], sums))

    fields = {name: mean(totals[name]) for name in _LIKE_PARAMS if name in totals}
    if "activations" in totals:
        fields["activations"] = {name: activation_of(sums) for name, sums in totals["activations"].items()}
    if "example_activations" in totals:
        fields["example_activations"] = jax.tree.map(jnp.sqrt, totals["example_activations"])
    if "map_ranks" in totals:
        fields["map_ranks"] = {name: ranks / count for name, (ranks, count) in totals["map_ranks"].items()}
    fields |= {name: totals[name] for name in OF_KERNELS if name in totals}
    if "fisher" in totals:
        slices = jax.tree.map(lambda total: total / totals["examples"], totals["fisher"]["slices"])
        fields["fisher"] = Fisher(mean(totals["fisher"]["weights"]), slices)
    return Evidence(params, groups, key, **fields)
