"""One encoded image to pixels: decoding, and the ImageNet recipe of PyTorch's example, on the host by Pillow."""

import dataclasses
import io
import math

import numpy as np
from PIL import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
TRIES = 10  # torchvision's: draws of a box before the centre of the image is taken instead


@dataclasses.dataclass(frozen=True)
class ImageRecipe:
    """What happens to an image of any size before it enters a network.

    Training: a box of ``scale`` times the image's area and an aspect in ``ratio``, resized to ``size`` by
    ``size``, mirrored half of the time where ``flip``. Evaluation: the shorter side to ``resize``, then the
    centre ``size`` by ``size``. Both resize with antialiased bilinear filters.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    resize: int
    flip: bool

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(
                f"dataset.size is {self.size} and dataset.resize {self.resize}; they need 1 <= size <= resize, "
                "for evaluation cuts its centre from the resized image"
            )
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if not 0 < low <= high or (name == "scale" and high > 1):
                limit = " <= 1" if name == "scale" else ""
                raise ValueError(f"dataset.{name} is {(low, high)}; it needs 0 < low <= high{limit}")


# PyTorch's ImageNet example, which the paper follows (§4, App. A).
IMAGENET_RECIPE = ImageRecipe(size=224, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), resize=256, flip=True)


def decode(encoded: bytes, channels: int) -> Image.Image:
    """A JPEG, PNG or other file that Pillow reads, with 1, 3 or 4 ``channels``.

    Raises ValueError for bytes that are no whole image.
    """
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{len(encoded)} bytes that are no image ({error})") from error
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def train_image(image: Image.Image, recipe: ImageRecipe, rng: np.random.Generator) -> np.ndarray:
    """A random resized crop, then a random flip: uint8 ``(size, size, channels)``."""
    left, top, width, height = crop_box(rng, *image.size, recipe.scale, recipe.ratio)
    flip = recipe.flip and rng.random() < 0.5
    cut = image.crop((left, top, left + width, top + height))
    pixels = _pixels(cut.resize((recipe.size, recipe.size), Image.Resampling.BILINEAR))
    return pixels[:, ::-1] if flip else pixels


def eval_image(image: Image.Image, recipe: ImageRecipe) -> np.ndarray:
    """The centre of the resized image: uint8 ``(size, size, channels)``."""
    width, height = image.size
    short = min(width, height)
    # As torchvision: the longer side is cut down to a whole number, the crop's corner is rounded to even.
    wide, high = (int(recipe.resize * side / short) for side in (width, height))
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - recipe.size) / 2), round((high - recipe.size) / 2)
    return _pixels(resized.crop((left, top, left + recipe.size, top + recipe.size)))


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """Uint8 ``(height, width, channels)`` as an image."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def plain_image(image: Image.Image) -> np.ndarray:
    """The pixels as they are: uint8 ``(height, width, channels)``."""
    return _pixels(image)


def crop_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """A random ``(left, top, width, height)`` inside an image, drawn as torchvision's RandomResizedCrop does.

    Its area is uniform in ``scale`` times the image's, the logarithm of its width over height uniform in
    ``ratio``'s. After ``TRIES`` boxes that don't fit: the largest centred one whose aspect is allowed.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(TRIES):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            top = int(rng.random() * (height - tall + 1))
            left = int(rng.random() * (width - wide + 1))
            return left, top, wide, tall
    aspect = min(max(width / height, ratio[0]), ratio[1])
    wide, tall = min(width, round(height * aspect)), min(height, round(width / aspect))
    return (width - wide) // 2, (height - tall) // 2, wide, tall


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]
