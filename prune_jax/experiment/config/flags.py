"""What the launcher does between its flags and an experiment."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from prune_jax.experiment.config.sweep import override

Sweep = Callable[[ConfigDict], Sequence[dict[str, Any]]]
NO_FILE = "there is no such file; name one by its path (those of the repository lie in its folder configs/)"


def parse_flags(argv: list[str]) -> list[str]:
    """absl's flag parser, with a mistyped config key as one line that names the nearest right one."""
    # In place: ml_collections looks for overrides in sys.argv itself, which absl passes in here.
    argv[:] = [part for argument in argv for part in _spelled_out(argument)]
    try:
        return flags.FLAGS(argv)
    except (KeyError, AttributeError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        if not where.endswith("config_dict.py"):  # a mistake inside the config file: its traceback helps
            raise
        message = f"--config has no such key: {_told(error)}"
    except OSError:
        named = _config_file(argv)
        if named is None or Path(named).is_file():  # a mistake inside the config file
            raise
        message = f"--config={named}: {NO_FILE}"
    except flags.Error as error:
        message = " ".join(str(error).split())
        if "--config=None" in message:
            message = "name an experiment, for example --config=configs/mystery1_mlp7.py"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _spelled_out(argument: str) -> list[str]:
    """``configs/NAME.py:quick`` is short for ``configs/NAME.py --config.quick``, ``--sweep`` for ``--sweep=all``."""
    if argument in ("--sweep", "-sweep"):
        return ["--sweep=all"]
    if argument.endswith(".py:quick"):
        return [argument.removesuffix(":quick"), "--config.quick"]
    return [argument]


def _config_file(argv: Sequence[str]) -> str | None:
    """The file that the command line names, without what may follow a colon."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, given, value = argument.lstrip("-").partition("=")
        if flag == "config" and argument.startswith("-"):
            return (value if given else following).partition(":")[0]
    return None


def _told(error: BaseException) -> str:
    """ml_collections' words on a missing key, which it wraps in one another, as one plain line."""
    inner = error.args[0] if error.args else ""
    if isinstance(inner, BaseException):
        return _told(inner)
    return " ".join(str(inner).replace('"', "'").split()).strip("'").replace("' Did", "; did")


def load_module(filename: str) -> ModuleType:
    """The config file as a module, for its optional ``sweep(config)`` and ``quick(config)``."""
    path = Path(filename.split(":")[0])
    if not path.is_file():
        raise ValueError(f"--config={filename}: {NO_FILE}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--config={filename} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolved(config: ConfigDict, module: ModuleType, given: Mapping[str, Any]) -> ConfigDict:
    """The config with the file's quick values, where asked for, under those ``given`` on the command line.

    Raises ValueError for --config.quick without ``quick(config)`` in the file, and for a given key that
    the file's sweep sets itself, since the sweep would silently win.
    """
    if config.quick:
        if not hasattr(module, "quick"):
            raise ValueError(f"quick is True, but {module.__name__}.py has no quick(config)")
        small = {key: value for key, value in module.quick(config).items() if key not in given}
        config = override(config, small)
    swept = {key for run in module.sweep(config) for key in run} if hasattr(module, "sweep") else set()
    for key in sorted(swept & set(given)):
        raise ValueError(
            f"{key} is given as {given[key]!r}, but the sweep of {module.__name__}.py sets it in every run; "
            "change the sweep's own keys (see the file) or write a config without a sweep"
        )
    return config


def load(filename: str) -> tuple[ConfigDict, Sweep | None]:
    """The config of a file ``NAME.py``, or its small form, ``NAME.py:quick``, and the file's sweep if it has one."""
    module = load_module(filename)
    config = module.get_config()
    config.quick |= filename.endswith(":quick")
    return resolved(config, module, {}), getattr(module, "sweep", None)


def refuse_extra_arguments(arguments: list[str]) -> None:
    """ValueError for arguments that are no flags, such as a mistyped dash."""
    if arguments:
        raise ValueError(
            f"unexpected arguments {arguments}; every setting is a flag joined to its value, as --config.key=value "
            "or --sweep=3/16"
        )
