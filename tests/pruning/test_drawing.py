"""The drawing of groups: its rows against a table by hand, its SVG as XML."""

import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import prune_jax
from prune_jax.pruning.drawing.rows import MOST_SEGMENTS, rows_of
from prune_jax.pruning.drawing.svg import color
from prune_jax.pruning.jaxpr.groups import Group, Slice

SVG = "{http://www.w3.org/2000/svg}"


def residual(params, x):
    h = x @ params["stem"]["kernel"] + params["stem"]["bias"][None]
    inner = jax.nn.relu(h @ params["block"]["one"]["kernel"])
    return (h + inner @ params["block"]["two"]["kernel"]) @ params["head"]["kernel"]


def ones(*shape):
    return {"kernel": jnp.ones(shape)}


PARAMS = {
    "block": {"one": ones(4, 6), "two": ones(6, 4)},
    "head": ones(4, 2),
    "stem": {**ones(3, 4), "bias": jnp.ones(4)},
}


@pytest.fixture(scope="module")
def groups():
    return prune_jax.find_groups(residual, PARAMS, jnp.ones((1, 3)))


def test_a_row_for_each_kernel_in_the_order_of_the_network(groups):
    named = {number: group.name for number, group in enumerate(groups)}

    def sides(row):
        return [
            tuple((named[s.group], s.length, s.kept) for bar in bars for s in bar)
            for bars in (row.reads, row.makes)
        ]

    rows = rows_of(groups, {"block/one": [0, 5]})
    assert {row.name: sides(row) for row in rows} == {
        "stem": [(("stem/kernel:0", 3, 3),), (("stem", 4, 4),)],
        "block/one": [(("stem", 4, 4),), (("block/one", 6, 2),)],
        "block/two": [(("block/one", 6, 2),), (("stem", 4, 4),)],
        "head": [(("stem", 4, 4),), (("head", 2, 2),)],
    }
    assert [row.name for row in rows] == ["stem", "block/one", "block/two", "head"]


def test_the_picture_names_groups_widths_and_reasons(groups):
    svg = ET.fromstring(prune_jax.draw(groups, {"block/one": [0, 5]}, title="a < b").svg)
    words = [text.text for text in svg.iter(f"{SVG}text")]
    assert "a < b" in words
    assert words.count("6→2") == 2  # one kernel makes the channels, one reads them
    legend = [text for text in words if "frozen" in text]
    assert [text.split()[1] for text in legend] == [group.name for group in groups if group.frozen]
    assert "frozen: network output" in next(text for text in legend if text.split()[1] == "head")
    # Two bars of the frozen ends in the rows, and two in the legend.
    assert sum(rect.get("class") == "frozen" for rect in svg.iter(f"{SVG}rect")) == 4
    (tie,) = (g for g in svg.iter(f"{SVG}g") if g.get("class") == "tie")  # stem and block/two make one group
    assert len(list(tie.iter(f"{SVG}circle"))) == 2


def test_full_and_pale_parts_have_the_lengths_that_stay_and_go(groups):
    svg = ET.fromstring(prune_jax.draw(groups, {"block/one": [0, 5]}).svg)
    number = [group.name for group in groups].index("block/one")
    bars = [
        [float(rect.get("width")) for rect in g.iter(f"{SVG}rect") if rect.get("fill") == color(number)]
        for g in svg.iter(f"{SVG}g")
    ]
    lengths = [bar for bar in bars if bar]
    assert len(lengths) == 2
    assert all(full == pytest.approx(whole / 3, abs=0.1) for whole, full in lengths)


def test_what_prune_returned_is_drawn_with_its_own_keep():
    small = prune_jax.prune((residual, PARAMS), jnp.ones((1, 3)), ratio=0.5, layers="block/one")
    assert prune_jax.draw(small).svg == prune_jax.draw(small.groups, small.keep).svg
    assert "6→3" in prune_jax.draw(small).svg
    assert "6→3" not in prune_jax.draw(small, {}).svg


def test_biases_of_attention_are_no_rows():
    def attend(params, x):
        query, key, value = (
            jnp.einsum("btd,dhk->bthk", x, params[name]["kernel"]) + params[name]["bias"][None, None]
            for name in ("query", "key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", query, key))
        return jnp.einsum("bhts,bshk,hkd->btd", weights, value, params["out"]["kernel"])

    one = {"kernel": jnp.ones((8, 2, 4)), "bias": jnp.ones((2, 4))}
    params = {"query": one, "key": one, "value": one, "out": ones(2, 4, 8)}
    rows = rows_of(prune_jax.find_groups(attend, params, jnp.ones((1, 3, 8))), {})
    assert [(row.name, len(row.reads), len(row.makes)) for row in rows] == [
        ("query", 1, 2),
        ("key", 1, 2),
        ("value", 1, 2),
        ("out", 2, 1),
    ]


def test_a_kernel_that_reads_one_channel_has_a_row():
    params = {"first": ones(1, 4), "second": ones(4, 3)}
    groups = prune_jax.find_groups(
        lambda p, x: x @ p["first"]["kernel"] @ p["second"]["kernel"], params, jnp.ones((2, 1))
    )
    assert [(row.name, len(row.reads), len(row.makes)) for row in rows_of(groups, {})] == [
        ("first", 0, 1),
        ("second", 1, 1),
    ]


def test_positions_that_alternate_are_shown_by_group():
    size = 2 * MOST_SEGMENTS
    even = np.where(np.arange(size) % 2 == 0, np.arange(size) // 2, -1)
    odd = np.where(np.arange(size) % 2 == 1, np.arange(size) // 2, -1)
    whole = np.arange(3)
    groups = tuple(
        Group(name, len(index), (Slice("a/kernel", axis, index),), Slice("a/kernel", axis, index), None, True)
        for name, axis, index in (("in", 0, whole), ("even", 1, even), ("odd", 1, odd))
    )
    groups = tuple(group._replace(size=int((group.producer.index >= 0).sum())) for group in groups)
    (row,) = rows_of(groups, {"odd": [0]})
    assert row.makes == (((1, size // 2, size // 2), (2, size // 2, 1)),)


def test_a_position_of_two_groups_stays_where_both_keep_it():
    heads, inner = Slice("a/kernel", 1, np.array([0, 0, 1, 1])), Slice("a/kernel", 1, np.array([0, 1, 0, 1]))
    read = Slice("a/kernel", 0, np.arange(3))
    groups = tuple(
        Group(name, size, (made,), made, None, True)
        for name, size, made in (("in", 3, read), ("heads", 2, heads), ("heads:inner", 2, inner))
    )
    (row,) = rows_of(groups, {"heads": [1], "heads:inner": [0]})
    assert row.makes == (((1, 4, 1),),)


def test_a_drawing_is_saved_as_svg_and_a_wrong_keep_is_refused(groups, tmp_path):
    picture = prune_jax.draw(groups)
    assert picture.save(tmp_path / "groups.svg").read_text() == picture.svg == picture._repr_svg_()
    assert len(repr(picture)) < 100
    with pytest.raises(ValueError, match=r"ends in '\.svg'"):
        picture.save(tmp_path / "groups.png")
    with pytest.raises(KeyError, match="nothing"):
        prune_jax.draw(groups, {"nothing": [0]})
    with pytest.raises(ValueError, match="frozen"):
        prune_jax.draw(groups, {"head": [0]})


def test_a_network_without_channels_is_an_empty_picture():
    assert ET.fromstring(prune_jax.draw(()).svg).tag == f"{SVG}svg"
