"""What ``spectrum`` and ``summarize`` refuse, and how they say it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax import trainability


def test_inside_a_trace_the_way_out_is_told():
    for function in (
        lambda x: trainability.spectrum(jnp.square, x).values,
        lambda x: trainability.spectrum(lambda v: x[:1] * v, np.ones((2, 3), np.float32)).values,
        lambda x: trainability.summarize(x, resolution=0.0).values,
    ):
        with pytest.raises(ValueError, match=r"outside jit and vmap: .*jacobian_singular_values"):
            jax.jit(function)(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "holds no examples"),
        (
            [(np.ones((2, 3), np.float32), np.zeros(2))],
            {},
            "a batch is a tuple; .*images for images, labels in",
        ),
        ([{"image": np.ones((2, 3), np.float32)}], {}, "a batch is a dict"),
        (np.ones((2, 3), np.float32), {"quantiles": 0.5}, "needs a list of probabilities"),
        (np.ones((2, 3), np.float32), {"resolution": -1.0}, "resolution is a share"),
        (np.ones((2, 3), np.float32), {"chunk": 2.5}, "chunk 2.5 is not a whole number"),
        (np.ones((0, 3), np.float32), {}, "at least one example"),
        (np.ones((2, 3), np.uint8), {}, "normalise the images"),
        ([np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)], {}, "different shapes"),
        (np.ones((2, 3), np.float32), {"quantiles": (0.5, 5)}, "quantile 5 is not in"),
        (np.ones((2, 3), np.float32), {"available": 10}, "even with chunk=1"),
        (
            [np.ones((3, 2), np.float32), np.array([[1, 1], [1, np.nan]], np.float32)],
            {},
            "of example 4: .*images",
        ),
    ],
)
def test_bad_input_is_named(batches, options, message):
    with pytest.raises(ValueError, match=message):
        trainability.spectrum(jnp.square, batches, **options)


def test_values_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        trainability.summarize(np.ones(3), resolution=0.0)
