"""A user's arrays as a data set: accepted forms, the hash of their bytes, and what is refused."""

import numpy as np
import pytest

from prune_jax import data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 5, 3)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
GOOD = {"train": (IMAGES, LABELS), "test": (IMAGES[:2], LABELS[:2])}


def changed(split="train", images=None, labels=None):
    made = dict(GOOD)
    old = made[split]
    made[split] = (old[0] if images is None else images, old[1] if labels is None else labels)
    return made


def test_a_dict_and_a_pair_of_pairs_are_the_same():
    one, two = (data.from_arrays("x:load", made) for made in (GOOD, (GOOD["train"], GOOD["test"])))
    assert (one.input_shape, one.train_size, one.test_size, one.num_classes) == ((4, 5, 3), 6, 2, 3)
    assert (one.train.images.dtype, one.train.labels.dtype) == (np.uint8, np.int32)
    assert one.content == two.content


@pytest.mark.parametrize(("shape", "wanted"), [((4, 5, 3), (4, 5, 3)), ((4, 5), (4, 5, 1)), ((7,), (7,))])
def test_floats_are_taken_as_they_are(shape, wanted):
    images = RNG.normal(size=(6, *shape))
    made = data.from_arrays("x:load", {"train": (images, LABELS), "test": (images, LABELS)})
    assert made.input_shape == wanted
    assert made.train.images.dtype == np.float32
    np.testing.assert_array_equal(made.train.images.reshape(images.shape), images.astype(np.float32))
    shown = data.normalize(made.train.images, (0.0,) * wanted[-1], (2.0,) * wanted[-1])
    np.testing.assert_allclose(shown, made.train.images / 2, rtol=1e-6)


def test_the_hash_is_of_every_byte_shape_type_and_of_the_source():
    def of(made, source=""):
        return data.from_arrays("x:load", made, source).content

    other = IMAGES.copy()
    other[5, 3, 4, 2] ^= 1
    swapped = LABELS[[1, 0, 2, 3, 4, 5]]
    variants = [
        of(GOOD), of(GOOD, "file"), of(changed(images=other)), of(changed(labels=swapped)),
        of(changed("test", images=other[4:])),
        of({split: (images.astype(np.float64), labels) for split, (images, labels) in GOOD.items()}),
        of({split: (images.reshape(len(images), 5, 4, 3), labels) for split, (images, labels) in GOOD.items()}),
    ]  # fmt: skip
    assert len(set(variants)) == len(variants)
    assert of(GOOD) == of(
        {split: (images.copy(order="F"), labels) for split, (images, labels) in GOOD.items()}
    )
    assert of(GOOD) == of(changed(labels=LABELS.astype(np.int8)))


NAN = IMAGES.astype(np.float32)
NAN[0, 0, 0, :2] = np.nan, np.inf


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, r"NoneType; it must be \{'train'"),
        ([1, 2], "list; it must be"),
        ((IMAGES, LABELS), "tuple; it must be"),
        ({"train": GOOD["train"]}, r"a dict of \['train'\]; it must be"),
        (changed(images=IMAGES[0, 0, :, 0]), r"train images of shape \(5,\); they must be"),
        (changed(images=IMAGES[:5]), r"5 train images and labels of shape \(6,\); one label an image"),
        (changed(labels=np.eye(3)[LABELS]), r"6 train images and labels of shape \(6, 3\)"),
        (changed("test", IMAGES[:0], LABELS[:0]), r"no test images \(shape \(0, 4, 5, 3\)\); both splits need"),
        (changed(images=IMAGES.astype(np.int64)), "train images of type int64; make them uint8 in 0..255, or floats"),
        ({"train": (NAN, LABELS), "test": (NAN[1:], LABELS[1:])}, "2 numbers in the train images that are NaN or inf"),
        (changed(labels=LABELS / 2), "train labels of type float64; make them integers"),
        (changed(labels=LABELS - 1), "train label -1; classes are numbered from 0"),
        (changed(labels=LABELS + 2**40), "train label 1099511627778; classes"),
        (changed(labels=LABELS * 0), "training labels that are all 0; a classifier needs at least 2 classes"),
        (changed("test", labels=LABELS[:2] + 3), "test label 4, but training labels go to 2; number both alike"),
        (changed("test", images=IMAGES[:2, :3]), r"images of shape \(4, 5, 3\) and test images of shape \(3, 5, 3\)"),
        (changed("test", images=NAN[1:3]), "images of type uint8 and test images of type float32; make them equal"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused_in_one_line(made, told):
    with pytest.raises(ValueError, match=rf"^dataset.name is 'x:load', which gives .*{told}") as caught:
        data.from_arrays("x:load", made)
    assert "\n" not in str(caught.value)
