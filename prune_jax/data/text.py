"""Text as windows of bytes: the sources of Python's standard library, or the files of any folder."""

import dataclasses
import hashlib
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from prune_jax.data.tfds import TEXTS, Dataset, Split

STDLIB, FOLDER = NAMES = TEXTS
BYTES = 256  # the vocabulary
# Modules that every Python from 3.11 on ships as source (PSF licence), split by file. The bytes differ from release to
# release, so their hash is part of what a run states.
TRAIN_MODULES = (
    "argparse", "ast", "asyncio/base_events", "asyncio/tasks", "base64", "bdb", "bisect", "bz2", "calendar", "cmd",
    "code", "codecs", "collections/__init__", "concurrent/futures/_base", "concurrent/futures/thread",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "dis", "doctest",
    "email/header", "email/message", "email/utils", "enum", "filecmp", "fileinput", "fractions", "ftplib",
    "functools", "getopt", "glob", "gzip", "hashlib", "heapq", "html/parser", "http/client", "http/cookies",
    "http/server", "imaplib", "importlib/abc", "inspect", "ipaddress", "json/decoder", "json/encoder", "locale",
    "logging/__init__", "logging/handlers", "mailbox", "mimetypes", "multiprocessing/managers",
    "multiprocessing/pool", "netrc", "numbers", "optparse", "os", "pdb", "pickle", "pickletools", "platform",
    "plistlib", "poplib", "pprint", "profile", "pstats", "queue", "random", "selectors", "shelve", "shlex",
    "shutil", "smtplib", "socket", "socketserver", "ssl", "statistics", "string", "string/__init__", "subprocess",
    "symtable", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "trace", "traceback",
    "turtle", "types", "typing", "unittest/case", "unittest/mock", "urllib/parse", "urllib/request", "uuid",
    "warnings", "wave", "weakref", "webbrowser", "xml/dom/minidom", "xml/etree/ElementTree", "xmlrpc/client",
    "zipapp", "zipfile", "zipfile/__init__",
)  # fmt: skip
TEST_MODULES = (
    "abc", "gettext", "sched", "unittest/loader",
)  # fmt: skip
_EITHER = {"string/__init__": "string", "zipfile/__init__": "zipfile"}  # a package from some release on


def load_text(
    name: str,
    *,
    length: int,
    data_dir: str | None = None,
    split_seed: int = 0,
    train_examples: int = 0,
    test_fraction: float = 0.1,
) -> Dataset:
    """Windows of a text, in memory.

    A window holds ``length`` bytes and the ``length`` bytes that follow them one by one. Within a file windows follow
    each other, so every byte but the first is predicted at most once. What is left at a file's end is dropped.

    Args:
        name: 'stdlib_text', or 'text_folder' for the files under ``data_dir``.
        length: positions of a window.
        data_dir: of 'text_folder' the folder. Its files are taken as bytes, whatever they are called.
        split_seed: of 'text_folder', which files are held out.
        train_examples: so many training windows, drawn with ``split_seed``. 0 takes all.
        test_fraction: of 'text_folder', the part of the files that is held out, at least one.

    Returns:
        A data set whose images are bytes uint8 (n, length) and whose labels are the next bytes int32 (n, length), with
        256 classes. ``content`` is a SHA-256 of the files' names and bytes.

    Raises:
        ValueError: there is no text, one file alone, or no window in a split. The message says what is allowed.
    """
    if length < 1:
        raise ValueError(f"dataset.window is {length}; it must be at least 1 byte")
    files = read_files(name, data_dir, split_seed, test_fraction)
    train, test = (_windows(name, split, files[split], length) for split in ("train", "test"))
    if train_examples:
        train = _drawn(train, train_examples, split_seed)
    return Dataset(name, _split(train), _split(test), BYTES, content_of(files))


def read_files(
    name: str, data_dir: str | None, split_seed: int = 0, test_fraction: float = 0.1
) -> dict[str, dict[str, bytes]]:
    """Split -> file name -> bytes.

    Raises:
        ValueError: as ``load_text``.
    """
    if name == STDLIB:
        return {"train": _modules(TRAIN_MODULES), "test": _modules(TEST_MODULES)}
    if name != FOLDER:
        raise ValueError(f"dataset.name is {name!r}, which is no text; allowed: {', '.join(NAMES)}")
    if not data_dir or not Path(data_dir).is_dir():
        raise ValueError(
            f"dataset.data_dir is {data_dir!r}, but 'text_folder' reads the files of a folder; name one"
        )
    root = Path(data_dir)
    found = {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }
    if len(found) < 2:
        raise ValueError(
            f"dataset.data_dir {data_dir} holds {len(found)} files; a split by file needs at least 2"
        )
    names = sorted(found)
    held_out = max(1, round(test_fraction * len(names)))
    order = np.random.default_rng(split_seed).permutation(len(names))
    test = {names[number] for number in order[:held_out]}
    return {
        "train": {key: data for key, data in found.items() if key not in test},
        "test": {key: data for key, data in found.items() if key in test},
    }


def _modules(names: Sequence[str]) -> dict[str, bytes]:
    root, found = Path(sysconfig.get_paths()["stdlib"]), {}
    for name in names:
        file = root / f"{name}.py"
        other = _EITHER.get(name)
        if file.exists():
            found[name] = file.read_bytes()
        elif other is None and name not in _EITHER.values():
            raise ValueError(
                f"dataset.name: this Python has no source of module {name!r} under {root}; install one that ships its "
                "standard library as .py files, or use dataset.name='text_folder'"
            )
    return found


def content_of(files: Mapping[str, Mapping[str, bytes]]) -> str:
    """A SHA-256, 64 hex digits, of splits, names and bytes."""
    digest = hashlib.sha256()
    for split, each in files.items():
        for name, data in each.items():
            digest.update(f"{split}/{name}:{len(data)}:".encode())
            digest.update(data)
    return digest.hexdigest()


def windows_of(data: bytes, length: int) -> np.ndarray:
    """Windows (n, length + 1) of a file, each beginning with the byte that ends the one before.

    Example:
        >>> windows_of(b"abcdefg", 3).tolist() == [list(b"abcd"), list(b"defg")]
        True
    """
    count = max(0, (len(data) - 1) // length)
    starts = length * np.arange(count)
    return np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(length + 1)]


def _windows(name: str, split: str, files: Mapping[str, bytes], length: int) -> np.ndarray:
    found = np.concatenate([windows_of(data, length) for data in files.values()])
    if not len(found):
        longest = max(map(len, files.values()))
        raise ValueError(
            f"dataset.window is {length}, but the longest {split} file of {name!r} has {longest} bytes, of which no "
            f"window and its next byte can be cut; allowed: 1 to {max(1, longest - 1)}"
        )
    return found


def _drawn(windows: np.ndarray, count: int, seed: int) -> np.ndarray:
    if not 1 <= count <= len(windows):
        raise ValueError(f"dataset.train_examples is {count}; allowed: 0 for all, or 1 to {len(windows)}")
    return windows[np.sort(np.random.default_rng(seed).choice(len(windows), count, replace=False))]


def _split(windows: np.ndarray) -> Split:
    return Split(windows[:, :-1], windows[:, 1:].astype(np.int32))


@dataclasses.dataclass(eq=False)
class TextConfig(tfds.core.BuilderConfig):
    """Which text a builder cuts into windows. Its name says its length and content."""

    text: str = STDLIB
    folder: str = ""
    length: int = 128
    split_seed: int = 0


class TextWindows(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A TFDS builder over windows of bytes, for streams that read example by example."""

    name = "text_windows"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: list[TextConfig] = []  # noqa: RUF012  (the name and type are TFDS's)

    def _info(self) -> tfds.core.DatasetInfo:
        tokens = tfds.features.Tensor(shape=(self.builder_config.length + 1,), dtype=np.uint8)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Windows of a text's bytes and the byte that follows, in the order of the files.",
            features=tfds.features.FeaturesDict({"tokens": tokens}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        how = self.builder_config
        files = read_files(how.text, how.folder or None, how.split_seed)
        return {
            split: self._generate_examples(_windows(how.text, split, files[split], how.length))
            for split in files
        }

    def _generate_examples(self, windows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, tokens in enumerate(windows):
            yield number, {"tokens": tokens}


def text_builder(
    name: str, *, length: int, data_dir: str | None = None, folder: str | None = None, split_seed: int = 0
) -> TextWindows:
    """The builder of a text's windows.

    Args:
        name, length, split_seed: as ``load_text`` takes them.
        data_dir: where TFDS puts what it prepares.
        folder: of 'text_folder', the folder that is read.
    """
    content = content_of(read_files(name, folder, split_seed))[:16]
    config = TextConfig(
        name=f"{name}-{length}-{content}",
        text=name,
        folder=folder or "",
        length=length,
        split_seed=split_seed,
    )
    return TextWindows(config=config, data_dir=data_dir, file_format="array_record")
