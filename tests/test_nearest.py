"""What is said of a name that nobody knows."""

import pytest

from prune_jax import nearest


def test_the_nearest_name_is_asked_about_and_nothing_far_off():
    assert nearest.hint("prunne", ("prune", "scratch")) == "; did you mean 'prune'?"
    assert nearest.hint("conv", ("conv1", "conv2", "head"), most=3) == "; did you mean 'conv2' or 'conv1'?"
    assert nearest.hint("xyz", ("prune", "scratch")) == ""
    assert nearest.hint(3, ()) == ""


def test_an_unknown_name_is_told_with_what_is_allowed():
    assert nearest.unknown("setup", "S32", ("S3.2", "SX")) == (
        "unknown setup 'S32'; did you mean 'S3.2'? Allowed: S3.2, SX"
    )
    assert nearest.unknown("setup", "q", ()) == "unknown setup 'q'. Allowed: none"


def test_of_very_many_names_the_first_are_shown_and_the_number():
    names = [f"block{i}" for i in range(100)]
    told = nearest.unknown("width", "x", names)
    assert told.endswith("block22, block23, ... (100 in all)")


def test_one_of_gives_the_value_back_or_says_key_value_and_way_out():
    assert nearest.one_of("pipeline", "prune", ("prune", "scratch")) == "prune"
    with pytest.raises(
        ValueError, match=r"^pipeline is 'srcatch'; allowed: prune, scratch; did you mean 'scratch'\?$"
    ):
        nearest.one_of("pipeline", "srcatch", ("prune", "scratch"))
    with pytest.raises(ValueError, match=r"^extend is 'x'; allowed: '', plateau$"):
        nearest.one_of("extend", "x", ("", "plateau"))
