"""Tables of text, held against tables typed by hand."""

import pytest

from prune_jax import text_table

ROWS = [["name", "size", ""], ["a", "10", "x"], ["longer ±", "", ""]]


def test_columns_are_as_wide_as_their_widest_cell():
    assert text_table.aligned(ROWS) == "name      size\na         10    x\nlonger ±"


def test_markdown():
    assert text_table.markdown(["a", "b"], [["1", "long"]]) == "| a | b |\n| --- | --- |\n| 1 | long |"
    assert text_table.markdown(["a"], []) == "| a |\n| --- |"


def test_padded_markdown_is_read_as_text_too():
    padded = text_table.markdown(["a", "b"], [["1", "long"], ["22", ""]], pad=True)
    assert padded == "| a  | b    |\n| --- | --- |\n| 1  | long |\n| 22 |      |"


def test_rows_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        text_table.aligned([["a", "b"], ["a"]])
