"""What a comparison knows of the images: the classes of a draw, their size, their normalisation."""

from dataclasses import replace
from pathlib import Path

import pytest

from prune_jax.fairness import Costs, RunRecord, Stage, images, read_folder, strictest_setup
from prune_jax.fairness.setups import SETUPS

RECIPE = {"size": 224, "scale": [0.08, 1.0], "ratio": [0.75, 1.33], "resize": 256, "flip": True}
DATA = {"name": "imagenet100", "mean": [0.485], "std": [0.229], "classes": [3, 7, 12], "recipe": RECIPE}
RESULTS = Path(__file__).parents[2] / "results"


def run(**changes):
    """A run from a base model on 'imagenet100/split0', its images as ``changes`` of DATA; None leaves one out."""
    data = {key: value for key, value in (DATA | changes).items() if value is not None}
    stages = (
        Stage("pretrain", ("base",), 30, "0:0.1"),
        Stage("sparsify", None, 0),
        Stage("retrain", None, 90, "0:0.01", spec={"data": data}),
    )
    return RunRecord("run", "imagenet100/split0", "resnet34", costs=Costs(speedup=2.0), stages=stages)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": [3, 7, 13]}, "classes "),
        ({"classes": [3, 7]}, " of 2)"),
        ({"recipe": RECIPE | {"size": 32}}, "(size 224) against imagenet100/split0 (size 32)"),
        ({"recipe": RECIPE | {"resize": 232}}, "(resize 256) against imagenet100/split0 (resize 232)"),
        ({"mean": [0.5]}, "(mean [0.485]) against imagenet100/split0 (mean [0.5])"),
        ({"std": [0.5], "mean": [0.5]}, "(mean [0.485], std [0.229]) against"),
        ({"content": "ab" * 32}, "(content unstated) against imagenet100/split0 (content abababababababab)"),
        ({"classes": None}, "against imagenet100/split0 (classes unstated)"),
    ],
)
def test_other_images_under_one_name_break_every_setup(changes, words):
    verdict = strictest_setup(run(), run(**changes))
    assert verdict.holding == ()
    assert verdict.explain("SX-A").startswith("SX-A doesn't hold (dataset imagenet100/split0 (")
    assert words in verdict.explain("S1")
    assert strictest_setup(run(**changes), run()).holding == ()


def test_the_same_classes_in_another_order_are_the_same():
    assert set(strictest_setup(run(), run(classes=[12, 3, 7])).holding) == set(SETUPS)


def test_what_augments_is_no_part_of_the_data_set():
    other = run(recipe=RECIPE | {"scale": [0.5, 1.0], "flip": False})
    assert strictest_setup(run(), other).holds("S1")


def test_a_form_that_one_side_leaves_unstated_is_taken_as_equal_and_named():
    a, b = run(classes=None), run(classes=None, recipe=None, mean=None)
    verdict = strictest_setup(a, b)
    assert verdict.holds("S1")
    assert [name for name in verdict.assumed if name.startswith("image")] == [
        "image size",
        "image resize",
        "image mean",
    ]


def test_two_records_that_say_nothing_of_their_images_have_their_data_sets_name():
    bare = replace(run(), stages=(Stage("scratch", None, 90, "0:0.1"),))
    verdict = strictest_setup(bare, bare)
    assert verdict.holds("S1")
    assert not any(name.startswith("image") for name in verdict.assumed)
    assert images.form(replace(bare, stages=None)) == {}
    foreign = Stage("scratch", None, 90, "0:0.1", spec={"data": "photographs", "classes": 5})
    assert images.form(replace(bare, stages=(foreign,))) == {}
    assert images.classes(replace(bare, stages=(foreign,))) is None


# What the pixels of the training split have, of all of MNIST and Fashion-MNIST as everybody takes them, and of
# scikit-learn's digits. A text has no channels.
FORMS = {
    "mnist5k": {"mean": [0.1307], "std": [0.3081]},
    "fashion_mnist": {"mean": [0.2860], "std": [0.3530]},
    "digits": {"mean": [0.3055], "std": [0.3759]},
    "stdlib_text": {"mean": [], "std": []},
}


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in RESULTS.glob("*/records")))
def test_committed_records_state_one_form_of_images(folder):
    """What they could be compared by before, they still can: none differs from another in its images."""
    first, *others = read_folder(RESULTS / folder)
    assert images.form(first) == FORMS[first.dataset.split("/")[0]]
    assert all(images.unlike(first, other) is None for other in others)
