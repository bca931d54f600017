"""The keys of a config as a page, from the comments in the code that makes them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import prune_jax

CONFIG = Path(prune_jax.__file__).parent / "experiment" / "config"
HEAD = "| key | default | meaning |\n| --- | --- | --- |"


class Key(NamedTuple):
    """One key: its dotted path, its default as written, and the comment above it."""

    path: str
    default: str
    meaning: str


class Section(NamedTuple):
    """The keys of one section, '' for the config's own, with the section's first sentences."""

    name: str
    told: str
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """Every section, in the order of ``default_config``. The config's own keys come first."""
    made = {
        section.name: section for path in sorted((CONFIG / "keys").glob("*.py")) for section in _made(path)
    }
    lines, statements = _read(CONFIG / "defaults.py")
    own, order = [], []
    for node in _assigned(statements):
        name = node.targets[0].attr
        if isinstance(node.value, ast.Call):
            order.append(made[name])
        else:
            own.append(Key(name, ast.unparse(node.value), _comment(lines, node.lineno)))
    return [Section("", "Keys of the config itself.", tuple(own)), *order]


def write(folder: Path) -> None:
    """Write ``config_keys.md``, which a page includes."""
    folder.mkdir(exist_ok=True)
    parts = [_table(section) for section in sections()]
    (folder / "config_keys.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _table(section: Section) -> str:
    rows = [
        f"| `{key.path}` | `{_plain(key.default)}` | {_plain(_code(key.meaning))} |" for key in section.keys
    ]
    heading = f"### `config.{section.name}`" if section.name else "### `config`"
    return "\n".join([heading, "", section.told.replace("``", "`"), "", HEAD, *rows])


def _made(path: Path) -> Iterator[Section]:
    """The sections that a file's functions return."""
    lines, statements = _read(path)
    for function in (node for node in statements if isinstance(node, ast.FunctionDef)):
        returned = function.body[-1]
        if not isinstance(returned, ast.Return) or not _items(returned.value):
            continue
        told = " ".join((ast.get_docstring(function) or "").split())
        yield Section(function.name, told, tuple(_keys(_items(returned.value), "", lines)))


def _keys(items: list[tuple[ast.Constant, ast.expr]], before: str, lines: list[str]) -> Iterator[Key]:
    """The keys of a dict, and in place of a dict among them its own keys."""
    for name, value in items:
        path, told = f"{before}{name.value}", _comment(lines, name.lineno)
        if inner := _items(value):
            yield from (
                key._replace(meaning=f"{told} {key.meaning}" if number == 0 else key.meaning)
                for number, key in enumerate(_keys(inner, f"{path}.", lines))
            )
        else:
            yield Key(path, _default(value), told)


def _items(value: ast.expr | None) -> list[tuple[ast.Constant, ast.expr]]:
    """The pairs of ``{...}`` or ``ConfigDict({...})``. Nothing for other expressions."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "ConfigDict" and value.args:
        value = value.args[0]
    return list(zip(value.keys, value.values, strict=True)) if isinstance(value, ast.Dict) else []


def _default(value: ast.expr) -> str:
    if isinstance(value, ast.Call):  # any_type(...), or an empty ConfigDict()
        value = value.args[0] if value.args else ast.Dict([], [])
    return ast.unparse(value)


def _comment(lines: list[str], number: int) -> str:
    """The comment lines right above a line, as one text."""
    above = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("# "))
    return " ".join(above)


def _read(path: Path) -> tuple[list[str], list[ast.stmt]]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines(), ast.parse(text).body


def _assigned(statements: list[ast.stmt]) -> Iterator[ast.Assign]:
    """The lines ``config.NAME = ...`` of ``default_config``."""
    function = next(node for node in statements if isinstance(node, ast.FunctionDef))
    yield from (
        node
        for node in function.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    )


def _code(text: str) -> str:
    """Values in quotes are shown as code."""
    return re.sub(r"(?<![\w`\"{])('[^'`]*')(?!\w)", r"`\1`", text)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
