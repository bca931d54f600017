"""Data sets that are not there yet: the error that says the exact command, and its words."""

from pathlib import Path

from prune_jax.data import idx
from prune_jax.data.imagenet import ARCHIVES, ENTRIES


class NotPreparedError(RuntimeError):
    """The data set is known, but its files are not there. The message says the command that makes them."""


def prepare_command(builder: str, root: str) -> str:
    """The shell command that prepares a TFDS set in the form that is read here."""
    return (
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder('{builder}', "
        f"data_dir='{root}', file_format='array_record').download_and_prepare()\""
    )


def not_prepared(name: str, builder: str, root: str) -> NotPreparedError:
    """The error for ``name``, read through TFDS's ``builder``, under TFDS's folder ``root``."""
    behind = f" (the classes it uses of TFDS's {builder!r})" if name != builder else ""
    manual = (
        f"put {' and '.join(ARCHIVES)} into {Path(root) / 'downloads' / 'manual'}, then "
        if name in ENTRIES
        else ""
    )
    files = "Prepare"
    if idx.is_name(name):
        package = idx.PACKAGES.get(name, "")
        files = (
            f"Either get its four IDX files ({package}from its authors) and name their folder by dataset.data_dir. Or "
            "prepare"
        )
    return NotPreparedError(
        f"dataset.name: data set {name!r}{behind} is not prepared under {root}. {files} it once, where TensorFlow "
        f"(pip install '.[prepare]') and the source can be reached: {manual}{prepare_command(builder, root)}"
    )


def other_format(name: str, folder: str, found: str) -> NotPreparedError:
    """The error for a set that TFDS prepared in ``folder`` in a form without random access, such as TFRecord."""
    return NotPreparedError(
        f"dataset.name: data set {name!r} is prepared in {folder} as {found}, which has no random access. Convert "
        f"it once, where TensorFlow (pip install '.[prepare]') is installed: tfds convert_format "
        f"--dataset_version_dir={folder} --out_file_format=array_record"
    )
