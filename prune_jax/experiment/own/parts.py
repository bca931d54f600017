"""Parts that a user brings: a network, data, criterion or optimiser named ``module:function`` in the config.

The module is found as Python finds any module: on ``sys.path``, where ``run.py`` puts the folder of the config file.
The bytes of its file go into the ids, so a changed file is another experiment. Modules that it imports itself don't.
"""

import hashlib
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from prune_jax import nearest

READ = (
    "__prune_jax_sha256__"  # an attribute of the user's module: the hash of the bytes that it was made from
)


def is_own(name: str) -> bool:
    """Whether a config's name means a part of the user's own, ``module:function``."""
    return ":" in name


def load_own(reference: str, key: str) -> Callable[..., Any]:
    """The function that ``reference`` names, its module imported where it isn't yet.

    Args:
        reference: ``'module:function'``, such as ``'my_parts:small_cnn'``. The module may be in a package.
        key: the config key that holds it, for the messages.

    Returns:
        The function, or any other object that can be called.

    Raises:
        ValueError: in one line, for no such module, a module that raises on import, no such function (with the
            nearest name), and what can't be called.
    """
    found = load_object(reference, key)
    if not callable(found):
        raise ValueError(
            f"{key} is {reference!r}, which is of type {type(found).__name__} in {file_of(reference, key)}; "
            "it must be a function"
        )
    return found


def load_object(reference: str, key: str) -> Any:
    """What ``reference`` names, a function or not. Raises ValueError as ``load_own``."""
    name, attribute = _parts(reference, key)
    module = _module(name, reference, key)
    found = getattr(module, attribute, None)
    if found is None:
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        near = nearest.closest(attribute, known)
        hint = f"; did you mean {name}:{near[0]}?" if near else f"; write {attribute} there"
        raise ValueError(f"{key} is {reference!r}, but {_where(module)} has no {attribute!r}{hint}")
    return found


def source_of(reference: str, key: str) -> str:
    """The SHA-256, 64 hex digits, of the file that the module of ``reference`` is made from.

    A module whose file has changed since this process read it is read anew, so that the hash is that of the code
    that runs. Call it where a launch begins and nowhere later.

    Raises:
        ValueError: as ``load_own``, and for a module without a file, such as a notebook's own.
    """
    module, file = _module(_parts(reference, key)[0], reference, key), file_of(reference, key)
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if (
        getattr(module, READ, None) != digest
    ):  # changed, or imported by other code, which may have read another text
        if not _is_installed(file):
            _read_anew(module, file, content, reference, key)
        setattr(module, READ, digest)
    return digest


def file_of(reference: str, key: str) -> Path:
    """The file of the module that ``reference`` names. Raises ValueError as ``source_of``."""
    module = _module(_parts(reference, key)[0], reference, key)
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == "__main__":
        raise ValueError(
            f"{key} is {reference!r}, but {module.__name__} is no module with a file of its own, whose bytes name the "
            "experiment; write the function to one (in a notebook with %%writefile my_parts.py)"
        )
    return Path(file)


def refuse_changed(reference: str, key: str, source: str) -> None:
    """Raise ValueError unless the loaded module is made from the bytes that hash to ``source``."""
    if source_of_loaded(reference, key) != source:
        raise ValueError(
            f"{key} is {reference!r}, whose file {file_of(reference, key)} is another than the one that the stage was "
            f"made with (SHA-256 {source[:16]}...); restore that file, or start a run of its own"
        )


def source_of_loaded(reference: str, key: str) -> str:
    """The SHA-256 that the module was read with, whatever its file holds by now. Read first where it wasn't yet."""
    module = _module(_parts(reference, key)[0], reference, key)
    return getattr(module, READ, None) or source_of(reference, key)


def call_own(function: Callable[..., Any], reference: str, key: str, *arguments: Any, **named: Any) -> Any:
    """``function(*arguments, **named)``. What it raises becomes a ValueError of one line that names key and value."""
    try:
        return function(*arguments, **named)
    except Exception as error:
        raise ValueError(f"{key} is {reference!r}, which raised {told(error)}") from error


def taken(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that the function's signature names. All where it takes ``**named``."""
    known = parameters_of(function)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in known}


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function, or of a class's ``__init__``, which Flax hides behind a metaclass."""
    if not inspect.isclass(function):
        return dict(inspect.signature(function).parameters)
    _, *own = inspect.signature(function.__init__).parameters.items()  # the first is self
    return dict(own)


def stated(references: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """For a record: config key -> reference, file and SHA-256 of every part among ``references`` that is own."""
    return {
        key: {"name": name, "file": str(file_of(name, key)), "sha256": source_of_loaded(name, key)}
        for key, name in references.items()
        if is_own(name)
    }


def told(error: BaseException) -> str:
    """An exception in one line: its type, what it says, and the last line of a user's file on its way."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if file.is_file() and not _is_installed(file)]
    if isinstance(error, SyntaxError) or not own or own[-1][0].is_relative_to(Path(__file__).parents[2]):
        return text
    return f"{text} ({own[-1][0].name}, line {own[-1][1]})"


def _parts(reference: str, key: str) -> tuple[str, str]:
    name, _, function = reference.partition(":")
    if not all(part.isidentifier() for part in [*name.split("."), function]):
        raise ValueError(
            f"{key} is {reference!r}; a part of your own is named module:function, such as my_parts:small_cnn"
        )
    return name, function


def _module(name: str, reference: str, key: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    importlib.invalidate_caches()  # the file may be younger than Python's list of its folder
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        raise (_absent(name, reference, key) if absent else _broken(error, name, reference, key)) from error
    if getattr(module, "__file__", None):
        setattr(module, READ, hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest())
    return module


def _read_anew(module: ModuleType, file: Path, content: bytes, reference: str, key: str) -> None:
    """Run the file's text in its module, without Python's cache of compiled files, which looks at times alone."""
    try:
        exec(compile(content, str(file), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise _broken(error, module.__name__, reference, key) from error


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def _absent(name: str, reference: str, key: str) -> ValueError:
    return ValueError(
        f"{key} is {reference!r}, but there is no module {name}; put {name.replace('.', '/')}.py beside the config "
        "file, or its folder on PYTHONPATH"
    )


def _broken(error: BaseException, name: str, reference: str, key: str) -> ValueError:
    return ValueError(f"{key} is {reference!r}, but importing {name} raised {told(error)}; mend that file")


def _where(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or f"the module {module.__name__}")
