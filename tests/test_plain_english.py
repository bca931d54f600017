"""The prose of the package: one idea a sentence, which semicolons between half sentences break."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

import prune_jax

PACKAGE = Path(prune_jax.__file__).parent
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
MOST = 0.3  # semicolons in 100 words
NOT_YET: dict[str, float] = {}  # rooms that still have more, and no more than this
CODE = re.compile(r"``.*?``|`[^`]*`", re.DOTALL)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def prose(source):
    """Docstrings without their examples, and comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield "\n".join(
                line for line in text.splitlines() if not line.lstrip().startswith((">>>", "..."))
            )
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def semicolons_in_100_words(texts):
    plain = [CODE.sub("code", text) for text in texts]
    return 100 * sum(text.count(";") for text in plain) / max(1, sum(len(text.split()) for text in plain))


@pytest.mark.parametrize("room", ROOMS)
def test_few_semicolons_in_the_prose_of_a_room(room):
    texts = [text for path in sorted((PACKAGE / room).rglob("*.py")) for text in prose(path.read_text())]
    found = semicolons_in_100_words(texts)
    assert found <= NOT_YET.get(room, MOST), (
        f"prune_jax/{room}: {found:.2f} semicolons in 100 words; write two sentences instead"
    )


def test_the_count_sees_docstrings_and_comments_but_no_code():
    source = 'x = "a; b"  # one; two\n\n\ndef f():\n    """First; second ``c; d``.\n\n    >>> 1; 2\n    """\n'
    assert semicolons_in_100_words(prose(source)) == pytest.approx(100 * 2 / 6)
