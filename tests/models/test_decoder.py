"""The decoder with all its pieces: causal, stacked as unstacked, and the law in float64."""

import functools

import jax
import numpy as np
import pytest
from drawn import drawn
from flax import nnx

from prune_jax import find_groups, models, shrink
from prune_jax.models.decoder import Decoder

SIZES = {"hidden": 6, "depth": 2, "heads": 4, "kv_heads": 2, "head_dim": 4, "mlp": 6}
FORMS = {
    "untied": {},
    "tied": {"tied": True},
    "scan": {"scan": True, "qkv_bias": True},
    "scan tied": {"scan": True, "tied": True},
}
TOKENS = np.array([[3, 1, 4, 1], [5, 9, 2, 6]], np.int32)


@functools.cache
def network(form, **sizes):
    options = {**SIZES, **FORMS[form], **sizes}
    net = models.functional(models.abstract("decoder", num_classes=11, input_shape=(4,), **options))
    return net._replace(apply=jax.jit(net.apply))


def filled(form, dtype="float64"):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: rng.uniform(-1, 1, s.shape).astype(dtype) + (len(s.shape) < 2), network(form).variables
    )


@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=[pytest.mark.slow] * (f in ("tied", "scan"))) for f in FORMS]
)
def test_law(form):
    """Heads with their queries and rotary pairs, inner widths; masked and small outputs and gradients agree."""
    import law

    with jax.enable_x64(True):
        apply, variables = network(form).apply, filled(form)
        groups = find_groups(apply, variables, TOKENS)
        keep = {
            g.name: np.arange(g.size)[1::2] for g in groups if g.frozen is None and g.maskable and g.size > 1
        }
        assert len(keep) == (2 if "scan" in form else 4)
        law.check(apply, variables, groups, keep, TOKENS)


@pytest.mark.parametrize("form", ["untied", "scan tied"])
def test_residual_channels_that_nothing_writes_or_reads_can_be_cut(form):
    """No mask stands for them, as norms run over them: then the norms' means say how many there are."""
    with jax.enable_x64(True):
        apply, variables = network(form).apply, filled(form)
        groups = find_groups(apply, variables, TOKENS)
        (residual,) = (g for g in groups if g.name.startswith("embed") and not g.maskable)
        kept = np.array([0, 2, 5])
        small = shrink(variables, groups, {residual.name: kept})
        # A mask that also scales the norms by the root of the fraction that is left, their epsilon too.
        zeros = {residual.name: np.setdiff1d(np.arange(6), kept)}
        masked = jax.tree.map(np.array, variables)
        flat = {
            jax.tree_util.keystr(p, simple=True, separator="/"): leaf
            for p, leaf in jax.tree_util.tree_leaves_with_path(masked)
        }
        for path, axis, index in residual.members:
            gone = np.isin(index, zeros[residual.name])
            np.moveaxis(flat[path], axis, 0)[gone] = 0
            if path.endswith("norm/scale"):
                flat[path] *= np.sqrt(len(kept) / 6)
        wide = network(form, norm_eps=1e-5 * len(kept) / 6).apply(masked, TOKENS)
        np.testing.assert_allclose(apply(small, TOKENS), wide, rtol=1e-9, atol=1e-12)


def test_a_position_sees_none_that_come_after_it():
    with jax.enable_x64(True):
        apply, variables = network("untied").apply, filled("untied")
        changed = TOKENS.copy()
        changed[:, 2] += 1
        before, after = apply(variables, TOKENS), apply(variables, changed)
        np.testing.assert_array_equal(before[:, :2], after[:, :2])
        assert (np.abs(before - after)[:, 2:].max(axis=(1, 2)) > 1e-3).all()


def test_stacked_blocks_compute_what_they_do_one_by_one():
    with jax.enable_x64(True):
        flat = filled("untied")
        blocks = flat["params"].pop("blocks")
        stacked = {
            **flat,
            "params": {
                **flat["params"],
                "blocks": jax.tree.map(lambda *each: np.stack(each), *blocks.values()),
            },
        }
        flat["params"]["blocks"] = blocks
        scanned = network("scan", qkv_bias=False).apply(stacked, TOKENS)
        np.testing.assert_allclose(scanned, network("untied").apply(flat, TOKENS), rtol=1e-12)


def test_logits_of_embeddings_are_those_of_the_tokens():
    graph, state = nnx.split(
        drawn(lambda rngs: Decoder(num_classes=11, input_shape=(4,), rngs=rngs, **SIZES))
    )
    embedded = jax.jit(lambda state, x: nnx.merge(graph, state).embedded(x))(state, TOKENS)
    of_embeddings = jax.jit(lambda state, x: nnx.merge(graph, state).from_embeddings(x))(state, embedded)
    of_tokens = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, TOKENS)
    np.testing.assert_array_equal(of_embeddings, of_tokens)
    assert embedded.shape == (2, 4, 6)


def test_stacked_blocks_are_drawn_apart():
    @jax.jit  # what isn't returned isn't drawn
    def drawn_kernel():
        net = Decoder(num_classes=11, input_shape=(4,), rngs=nnx.Rngs(0), scan=True, **SIZES)
        return net.blocks.mlp.gate.kernel[...]

    kernel = drawn_kernel()
    assert kernel.shape == (2, 6, 6)
    assert not np.array_equal(kernel[0], kernel[1])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"heads": 6, "kv_heads": 4},
            "heads is 6 and kv_heads 4.*multiple of 4, or kv_heads one of 1, 2, 3, 6",
        ),
        ({"head_dim": 5}, "head_dim is 5, but rotary positions turn pairs"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"mlp": 0}, "mlp must be at least 1, got 0"),
    ],
)
def test_sizes_that_fit_no_decoder_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        models.abstract("decoder", num_classes=11, input_shape=(4,), **sizes)
