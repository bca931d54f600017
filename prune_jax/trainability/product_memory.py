"""How many vectors go through a network together, and whether what is kept of them fits: known before the work."""

from typing import Any

import jax

from prune_jax.trainability import memory
from prune_jax.trainability.passes import Forward, Shapes, largest


def vectors_at_once(apply: Any, tangent_map: Any, x: Any, logits: Any) -> int:
    """Vectors for each example of ``x`` that memory takes through a network at once; ValueError for none.

    ``tangent_map`` holds the residuals of its forward pass: arrays, or shapes and dtypes alone. Those whose leading
    axis is a multiple of the batch may be folded activations, and count, but for the shapes of what ``apply`` binds.
    """
    bound = {leaf.shape for leaf in jax.tree.leaves(apply) if hasattr(leaf, "shape")}
    kept = jax.tree.leaves(tangent_map)
    own = [leaf for leaf in kept if leaf.shape not in bound]
    held = max(largest(own, len(x), folded=True), largest(kept, len(x)))
    seed: Any = jax.ShapeDtypeStruct((1, *logits.shape[1:]), logits.dtype)
    cost = memory.need(Shapes(Forward(tangent_map, seed, None), jax.ShapeDtypeStruct(x.shape, x.dtype), held))
    room = memory.available()
    step = (room - cost.fixed) // cost.per_cotangent
    if step < 1:
        needed = cost.fixed + cost.per_cotangent
        raise ValueError(
            _refusal(f"a product with the Jacobians of {cost.batch} examples", needed, room, cost.batch)
        )
    return step


def refuse_if_kept(numbers: int, itemsize: int, examples: int, what: str) -> None:
    """ValueError where ``numbers`` for each of the ``examples``, kept by ``what``, are more than memory takes."""
    needed = numbers * itemsize * examples
    if needed <= memory.LITTLE:
        return
    room = memory.available()
    if needed > room:
        raise ValueError(
            _refusal(f"{what} of {examples} examples", needed, room, examples) + ", or a smaller budget"
        )


def _refusal(what: str, needed: int, room: int, examples: int) -> str:
    fits = examples * room // needed
    return f"{what} needs about {memory.gib(needed)} and {memory.gib(room)} are available: use " + (
        f"batches of {fits}" if fits else "fewer outputs or smaller inputs, as not one example fits"
    )
