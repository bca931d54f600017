"""Decoding and the ImageNet recipe, pixel for pixel: tables made by torchvision, and Pillow's filter in NumPy."""

import io
import math

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prune_jax.data import images

WHOLE = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
SMALL = images.ImageRecipe(size=4, resize=5, flip=True, **WHOLE)


class Draws:
    """A random generator whose uniform numbers are given."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def pattern(height, width):
    y, x, c = np.mgrid[:height, :width, :3]
    return Image.fromarray(((37 * x + 11 * y * y + 5 * x * y + 90 * c) % 256).astype(np.uint8))


def rows(table):
    return np.array([np.frombuffer(bytes.fromhex(row), np.uint8).reshape(-1, 3) for row in table])


# Before Pillow 13 the horizontal direction always comes first, which rounds some levels to their neighbour.
TOLERANCE = 0 if int(PIL.__version__.split(".")[0]) >= 13 else 1
# torchvision 0.29.2 on pattern(height, width): CenterCrop(4) of Resize(5).
EVALUATED = {
    (9, 14): (
        "a5636f5965a8599e5d8d825c",
        "826e9a699f8b76907c658189",
        "7890816682966d748c8c7d82",
        "7c908e6f89797f9985828282",
    ),
    (17, 6): (
        "7aad6987547b60726f7ebd62",
        "5a5e98597e53ae3e62a45db7",
        "92775d635f9260845ebb4a6f",
        "6ab623b49f818c8966904a47",
    ),
}
# Its hflip of resized_crop(top=3, left=1, height=8, width=6, size 4) of pattern(12, 10).
TRAINED = (
    "6d9e7374998595797e9c8879",
    "70869874958f7a82677e7c62",
    "82947a8e81a298586b62706a",
    "6fa05aa044857d815696828a",
)


def assert_close(pixels, wanted):
    np.testing.assert_allclose(pixels.astype(int), wanted.astype(int), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", EVALUATED)
def test_evaluation_equals_torchvision(size):
    assert_close(images.eval_image(pattern(*size), SMALL), rows(EVALUATED[size]))


def test_training_equals_torchvision():
    # Draws: area 48 of 120 is 0.4 of the image, aspect 6/8, corner (3 of 5, 1 of 5), flip below one half.
    area = (0.4 - 0.08) / (1 - 0.08)
    draws = Draws(area, 0.0, 3.5 / 5, 1.5 / 5, 0.49)
    assert_close(images.train_image(pattern(12, 10), SMALL, draws), rows(TRAINED))
    draws = Draws(area, 0.0, 3.5 / 5, 1.5 / 5, 0.5)
    assert_close(images.train_image(pattern(12, 10), SMALL, draws), rows(TRAINED)[:, ::-1])


def pillow_bilinear(pixels, height, width):
    """Antialiased bilinear as Pillow does it: 22-bit weights, rounded to 8 bits after each direction.

    Both orders of the two directions: which one Pillow takes depends on its version and the sizes.
    """
    passes = ((1, width), (0, height))
    return [one_by_one(pixels, order) for order in (passes, passes[::-1])]


def one_by_one(pixels, passes):
    for axis, size in passes:
        moved = np.moveaxis(pixels, axis, 0).astype(np.int64)
        ratio = moved.shape[0] / size
        reach = max(ratio, 1.0)
        out = []
        for i in range(size):
            center = (i + 0.5) * ratio
            first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), moved.shape[0])
            distance = np.abs((np.arange(first, last) - center + 0.5) / reach)
            weights = np.maximum(1 - distance, 0)
            fixed = np.floor(weights / weights.sum() * 2**22 + 0.5).astype(np.int64)
            out.append((np.tensordot(fixed, moved[first:last], 1) + 2**21) >> 22)
        pixels = np.moveaxis(np.clip(np.stack(out), 0, 255).astype(np.uint8), 0, axis)
    return pixels


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(3, 70), st.integers(3, 70), st.integers(0, 9))
def test_both_parts_equal_numpy_on_images_of_any_size(height, width, seed):
    recipe = images.ImageRecipe(size=8, resize=11, flip=True, **WHOLE)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    short = min(height, width)
    tall, wide = int(11 * height / short), int(11 * width / short)
    top, left = round((tall - 8) / 2), round((wide - 8) / 2)
    allowed = [whole[top : top + 8, left : left + 8] for whole in pillow_bilinear(pixels, tall, wide)]
    picture = images.from_pixels(pixels)
    evaluated = images.eval_image(picture, recipe)
    assert any(np.array_equal(evaluated, wanted) for wanted in allowed)
    x, y, w, h = images.crop_box(np.random.default_rng(seed), width, height, recipe.scale, recipe.ratio)
    allowed = pillow_bilinear(pixels[y : y + h, x : x + w], 8, 8)
    trained = images.train_image(picture, recipe, np.random.default_rng(seed))
    assert any(np.array_equal(trained, w) or np.array_equal(trained, w[:, ::-1]) for w in allowed)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_boxes_lie_inside_with_area_and_aspect_as_asked(width, height, seed):
    left, top, wide, tall = images.crop_box(np.random.default_rng(seed), width, height, **WHOLE)
    assert left >= 0
    assert top >= 0
    assert 1 <= wide <= width - left
    assert 1 <= tall <= height - top
    centred = (left, top) == ((width - wide) // 2, (height - tall) // 2)
    # A side is rounded by at most half a pixel, which moves area and aspect by that much.
    area = (wide + 0.5) * (tall + 0.5) >= 0.08 * width * height
    low, high = (wide - 0.5) / (tall + 0.5), (wide + 0.5) / (tall - 0.5)
    assert (area and low <= 4 / 3 and high >= 3 / 4) or centred


def test_box_draws_by_hand():
    # Area 0.54 x 100 x 50 = 2700 at log aspect 0: 52 x 52 is too tall; then 0.08 x 5000 = 400: 20 x 20.
    draws = Draws(0.5, 0.5, 0.0, 0.5, 0.999, 0.0)
    assert images.crop_box(draws, 100, 50, **WHOLE) == (0, 30, 20, 20)
    assert not draws.numbers


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(100, 3, (48, 0, 4, 3)), (3, 100, (0, 48, 3, 4)), (5, 5, (0, 0, 5, 5))],
)
def test_when_no_box_fits_the_centre_is_taken(width, height, box):
    draws = Draws(*[1 - 1e-12] * 20)  # the whole area at the largest aspect
    wide, tall = (round(math.sqrt(width * height * ratio)) for ratio in (4 / 3, 3 / 4))
    assert wide > width or tall > height
    assert images.crop_box(draws, width, height, **WHOLE) == box


def encoded(picture, form, **settings):
    file = io.BytesIO()
    picture.save(file, form, **settings)
    return file.getvalue()


TABLE = np.array([[[0, 1, 2], [255, 254, 253]], [[9, 90, 200], [77, 77, 77]]], np.uint8)


def test_decoding_equals_a_table():
    lossless = encoded(Image.fromarray(TABLE), "PNG")
    np.testing.assert_array_equal(images.plain_image(images.decode(lossless, 3)), TABLE)
    opaque = np.concatenate([TABLE, np.full((2, 2, 1), 9, np.uint8)], -1)
    with_alpha = encoded(Image.fromarray(opaque), "PNG")
    np.testing.assert_array_equal(images.plain_image(images.decode(with_alpha, 3)), TABLE)
    grey = np.array([[0, 255], [17, 3]], np.uint8)
    grey_file = encoded(Image.fromarray(grey), "PNG")
    np.testing.assert_array_equal(images.plain_image(images.decode(grey_file, 1)), grey[..., None])
    np.testing.assert_array_equal(images.plain_image(images.decode(grey_file, 3)), np.stack([grey] * 3, -1))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 200, 255])
def test_a_grey_block_of_jpeg_decodes_to_its_level(value):
    """A flat 8 x 8 block has only its mean coefficient, 8 (v - 128), which quality 100 keeps as it is."""
    flat = Image.fromarray(np.full((16, 24), value, np.uint8))
    pixels = images.plain_image(images.decode(encoded(flat, "JPEG", quality=100), 3))
    np.testing.assert_array_equal(pixels, np.full((16, 24, 3), value))


def test_jpeg_equals_pillows_own_pixels():
    file = encoded(pattern(33, 47), "JPEG", quality=85)
    wanted = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(images.plain_image(images.decode(file, 3)), wanted)


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_what_is_no_whole_image_is_refused(damage):
    file = encoded(pattern(40, 40), "JPEG")
    broken = {"empty": b"", "text": b"no image at all", "cut": file[: len(file) // 2]}[damage]
    with pytest.raises(ValueError, match=f"{len(broken)} bytes that are no image"):
        images.decode(broken, 3)
