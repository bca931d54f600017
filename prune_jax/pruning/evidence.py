"""What a criterion may look at, and how it is gathered over batches of data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from prune_jax.pruning.activations import Activation, activation_of, channel_sums
from prune_jax.pruning.jaxpr.groups import Group

__all__ = ["NEEDS", "Activation", "Evidence", "gather", "gatherer"]


class Evidence(NamedTuple):
    """What is known of a network when its weights or channels are scored.

    A criterion declares which of the fields after ``groups`` it needs; ``gather`` fills them.

    Attributes:
      params: any pytree of arrays; float leaves of rank two or more are kernels.
      groups: the coupled groups of channels (``find_groups``); empty where single weights are scored.
      key: a PRNG key, for criteria that draw.
      grads: pytree like ``params``, the mean gradient of the loss.
      grads_squared: pytree like ``params``, the mean of the squared gradient.
      activations: group name -> ``Activation`` of what the group's producer makes.
      hessian_products: pytree like ``params``, an estimate of the Hessian's diagonal.
    """

    params: Any
    groups: Sequence[Group] = ()
    key: jax.Array | None = None
    grads: Any = None
    grads_squared: Any = None
    activations: Any = None
    hessian_products: Any = None


NEEDS = frozenset(Evidence._fields) - {"params", "groups"}
_OF_LOSS = frozenset({"grads", "grads_squared", "hessian_products"})


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
) -> Callable[[Any, Iterable[Any], jax.Array | None], Evidence]:
    """A function that gathers evidence; it is compiled once for all networks and batches of equal shapes.

    All means weigh every example alike, so a smaller last batch counts less. Sums stay on the device,
    and nothing waits for it between batches. The gradient is of float leaves; other leaves get zeros.

    Args:
      needs: fields of ``Evidence`` that are to be filled (a criterion's ``needs``).
      loss: ``loss(params, batch)`` -> scalar, the mean over the batch's examples.
      apply: ``apply(params, batch)`` -> outputs, for 'activations'; it picks the inputs from the batch.
      groups: whose activations are read.
      per_example: 'grads_squared' is the mean over examples of the squared gradient of each, with every
        example as a batch of one (the empirical Fisher's diagonal; it takes a batch times the memory
        of the gradient). Otherwise it is the mean over batches of the batch's squared mean gradient.
      samples: draws z of random signs per batch for 'hessian_products', which is the mean of
        z * (H z) with H the Hessian of the loss (Hutchinson's estimate of its diagonal).

    Returns:
      ``gathered(params, batches, key)`` -> ``Evidence``. ``batches`` is an iterable of pytrees whose
      leaves have the examples on their first axis. ``key`` is handed on, and draws the signs.

    Raises:
      ValueError: a need is no field of ``Evidence``, or the arguments can't give it.
    """
    wanted = frozenset(needs)
    _check(wanted, loss, apply, groups, samples)

    @jax.jit
    def terms(params: Any, batch: Any) -> dict[str, Any]:
        out: dict[str, Any] = {"examples": jnp.float32(_examples(batch))}
        if wanted & {"grads", "grads_squared"}:
            assert loss is not None
            out |= _gradient_terms(wanted, loss, params, batch, per_example)
        if "activations" in wanted:
            assert apply is not None
            out["activations"] = channel_sums(apply, params, groups, batch)
        return out

    @jax.jit
    def probe(params: Any, batch: Any, key: jax.Array) -> list[Any]:
        assert loss is not None
        return _scaled(_examples(batch) / samples, _hutchinson(loss, params, batch, key))

    def gathered(params: Any, batches: Iterable[Any], key: jax.Array | None = None) -> Evidence:
        if key is None and wanted & {"key", "hessian_products"}:
            raise ValueError(
                "a PRNG key is needed for 'key' and 'hessian_products': pass key=jax.random.key(seed)"
            )
        totals: dict[str, Any] = {}
        for number, batch in enumerate(batches if wanted - {"key"} else ()):
            totals = _plus(totals, terms(params, batch))
            for draw in range(samples if "hessian_products" in wanted else 0):
                signs = jax.random.fold_in(cast(jax.Array, key), number * samples + draw)
                totals = _plus(totals, {"hessian_products": probe(params, batch, signs)})
        if not totals and wanted - {"key"}:
            raise ValueError("there are no batches to gather evidence from; give at least one")
        return _evidence(params, groups, key, totals)

    return gathered


def _check(wanted: frozenset[str], loss: Any, apply: Any, groups: Sequence[Group], samples: int) -> None:
    unknown = sorted(wanted - NEEDS)
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} is no field of evidence; needs are among {', '.join(sorted(NEEDS))}"
        )
    if loss is None and wanted & _OF_LOSS:
        raise ValueError(f"{min(wanted & _OF_LOSS)!r} needs a loss: pass loss=function(params, batch)")
    if "activations" in wanted and (apply is None or not groups):
        raise ValueError("'activations' needs apply=function(params, batch) and groups=find_groups(...)")
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


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _of_floats(loss: Callable, params: Any, batch: Any) -> tuple[Callable, list[Any]]:
    """The loss as a function of the float leaves alone, and these leaves."""
    leaves, treedef = jax.tree.flatten(params)

    def of_floats(floats: list[Any]) -> Any:
        rest = iter(floats)
        return loss(
            jax.tree.unflatten(treedef, [next(rest) if _is_float(leaf) else leaf for leaf in leaves]), batch
        )

    return of_floats, [jnp.asarray(leaf) for leaf in leaves if _is_float(leaf)]


def _scaled(factor: Any, leaves: list[Any]) -> list[Any]:
    """Leaves times a number, in float32 or wider, so that sums over many batches stay exact enough."""
    return [factor * leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in leaves]


def _gradient_terms(
    wanted: frozenset[str], loss: Callable, params: Any, batch: Any, per_example: bool
) -> dict[str, list[Any]]:
    """The batch's mean gradient and mean squared gradient, times its number of examples."""

    def gradient(batch: Any) -> list[Any]:
        function, floats = _of_floats(loss, params, batch)
        return _scaled(1, jax.grad(function)(floats))

    out = {"grads": gradient(batch)}
    if "grads_squared" in wanted and per_example:
        each = jax.vmap(lambda example: gradient(jax.tree.map(lambda x: x[None], example)))(batch)
        out["grads_squared"] = [(leaf * leaf).mean(0) for leaf in each]
    elif "grads_squared" in wanted:
        out["grads_squared"] = [leaf * leaf for leaf in out["grads"]]
    return {name: _scaled(_examples(batch), leaves) for name, leaves in out.items() if name in wanted}


def _hutchinson(loss: Callable, params: Any, batch: Any, key: jax.Array) -> list[Any]:
    """z * (H z) for one draw of signs z."""
    function, floats = _of_floats(loss, params, batch)
    keys = jax.random.split(key, max(len(floats), 1))
    signs = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, floats, strict=False)]
    product = jax.jvp(jax.grad(function), (floats,), (signs,))[1]
    return [sign * entry for sign, entry in zip(signs, product, strict=True)]


def _evidence(params: Any, groups: Sequence[Group], key: Any, totals: dict[str, Any]) -> Evidence:
    leaves, treedef = jax.tree.flatten(params)

    def mean(sums: list[Any]) -> Any:
        means = iter(_scaled(1 / totals["examples"], sums))
        return jax.tree.unflatten(
            treedef, [next(means) if _is_float(leaf) else jnp.zeros(jnp.shape(leaf)) for leaf in leaves]
        )

    fields = {name: mean(totals[name]) for name in _OF_LOSS if name in totals}
    if "activations" in totals:
        fields["activations"] = {name: activation_of(sums) for name, sums in totals["activations"].items()}
    return Evidence(params, groups, key, **fields)
