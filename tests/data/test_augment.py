import jax
import jax.numpy as jnp
import numpy as np

from prune_jax import data


def images(batch=5, side=6, channels=2):
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, channels)).astype(np.uint8)


def test_normalize_equals_numpy_float64():
    x = images()
    mean, std = [0.4, 0.5], [0.2, 0.3]
    wanted = (x.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(data.normalize(jnp.asarray(x), mean, std), wanted, rtol=1e-5, atol=1e-6)


def test_every_crop_is_a_window_of_the_padded_image():
    x = images()
    cropped = np.asarray(jax.jit(lambda k, v: data.random_crop(k, v, 2))(jax.random.key(1), jnp.asarray(x)))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners = []
    for i in range(len(x)):
        windows = {(r, c): padded[i, r : r + 6, c : c + 6] for r in range(5) for c in range(5)}
        found = [corner for corner, window in windows.items() if np.array_equal(window, cropped[i])]
        assert found
        corners.append(found[0])
    assert len(set(corners)) > 1


def test_flip_mirrors_some_and_leaves_the_others():
    x = images(batch=32)
    flipped = np.asarray(data.random_flip(jax.random.key(0), jnp.asarray(x)))
    mirrored = [np.array_equal(flipped[i], x[i, :, ::-1]) for i in range(32)]
    same = [np.array_equal(flipped[i], x[i]) for i in range(32)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 4 < sum(mirrored) < 28


def test_augment_without_parts_is_the_identity():
    x = jnp.asarray(images())
    assert np.array_equal(data.augment(jax.random.key(0), x), x)
