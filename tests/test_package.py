"""What is installed and what a type checker sees: dependencies, version, the stub beside the table of names."""

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from mypy import api

import prune_jax

ROOT = Path(prune_jax.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CORE = {"jax", "flax", "optax", "scipy", "numpy", "rich", "safetensors"}
# Import names of what the extras install; orbax, absl and Pillow's are other words than the distributions'.
OPTIONAL = {
    "orbax", "tensorflow_datasets", "array_record", "grain", "ml_collections", "importlib_resources",
    "mlxtend", "sklearn", "threadpoolctl", "filelock", "matplotlib", "jax2onnx", "onnxruntime", "flatbuffers",
    "torch", "tensorflow", "submitit",
}  # fmt: skip


def lines(path):
    return {line.split("#")[0].strip() for line in path.read_text().splitlines()} - {""}


def test_requirements_are_the_package_with_the_extras_that_make_uses():
    core, serialising = (
        set(PROJECT["dependencies"]),
        {line for line in EXTRAS["export"] if "flatbuffers" in line},
    )
    assert (
        lines(ROOT / "requirements.txt") == core | {*EXTRAS["experiments"], *EXTRAS["report"]} | serialising
    )
    assert {line.split(">")[0] for line in core} == CORE
    assert EXTRAS["all"] == ["prune_jax[experiments,report,export]"]


def test_the_version_has_one_place_and_the_citation_agrees():
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert f"\nversion: {prune_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


# Rooms whose names load on first use; what a stub can't import under its name stands beside it.
LAZY = {
    "prune_jax": {
        "criteria": ("prune_jax.pruning.criteria", "table"),
        "mask_rules": ("prune_jax.pruning.mask_rules", "table"),
        "regularizers": ("prune_jax.pruning.regularizers", "table"),
    },
    "prune_jax.trainability": {},
    "prune_jax.experiment": {},
}


@pytest.mark.parametrize("package", LAZY)
def test_the_stub_offers_the_same_objects_as_the_table(package):
    lazy = importlib.import_module(package)
    tree = ast.parse(Path(lazy.__file__).with_suffix(".pyi").read_text())
    homes = dict(LAZY[package])
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            homes |= {alias.asname: (node.module, alias.name) for alias in node.names if alias.asname}
    assert sorted(homes) == lazy.__all__
    for name, (module, theirs) in homes.items():
        room = importlib.import_module(module)
        found = (
            getattr(room, theirs) if hasattr(room, theirs) else importlib.import_module(f"{module}.{theirs}")
        )
        assert getattr(lazy, name) is found, name


TYPED = """
import prune_jax
from prune_jax import shrnk, trainability
from prune_jax.trainability import ntk_spectrm
reveal_type(prune_jax.shrink)
reveal_type(prune_jax.count)
reveal_type(prune_jax.mean_jsv)
reveal_type(prune_jax.prune)
reveal_type(prune_jax.criteria.CRITERIA)
reveal_type(prune_jax.allocation.uniform)
reveal_type(trainability.mean_jsv_estimate)
reveal_type(trainability.Plan)
reveal_type(trainability.Estimate)
prune_jax.spectrm
trainability.mean_jsw
"""
# The types of other packages are of no interest here, and take a minute to read.
CONFIG = """
[mypy]
follow_imports = silent
ignore_missing_imports = true
"""
SKIPPED = """
[mypy-{package}.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


def test_a_type_checker_sees_the_names_and_a_misspelt_one(tmp_path, monkeypatch):
    (tmp_path / "used.py").write_text(TYPED)
    packages = sorted({*CORE - {"rich"}, *OPTIONAL, "absl", "IPython"})
    (tmp_path / "mypy.ini").write_text(
        CONFIG + "".join(SKIPPED.format(package=package) for package in packages)
    )
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    where = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(ROOT / ".mypy_cache/names")]
    found, problems, _ = api.run([*where, str(tmp_path / "used.py")])
    assert not problems
    assert 'Module "prune_jax" has no attribute "shrnk"' in found
    assert 'Module "prune_jax.trainability" has no attribute "ntk_spectrm"' in found
    assert 'has no attribute "spectrm"' in found
    assert 'has no attribute "mean_jsw"' in found
    types = [line for line in found.splitlines() if "Revealed type" in line]
    assert len(types) == 9
    assert all('"Any"' not in line and '"def (*' not in line for line in types), types


BLOCKED = """
import importlib.abc, sys


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not installed")


sys.meta_path.insert(0, Blocked())
import prune_jax

for name in prune_jax.__all__:
    getattr(prune_jax, name)
from prune_jax import trainability

for name in trainability.__all__:
    getattr(trainability, name)
"""


def test_public_names_load_with_the_core_dependencies_alone():
    # Flax requires orbax, Optax absl.
    code = BLOCKED.format(names=OPTIONAL - {"orbax"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wheel_has_the_types_the_tables_and_the_version(tmp_path):
    pytest.importorskip("setuptools", reason="building a wheel without a network needs setuptools here")
    source = tmp_path / "source"  # setuptools writes beside the sources
    shutil.copytree(ROOT / "prune_jax", source / "prune_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run([*command, "-w", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"prune_jax-{prune_jax.__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    stubs = {f"{package.replace('.', '/')}/__init__.pyi" for package in LAZY}
    assert {"prune_jax/py.typed", "prune_jax/fairness/table1.csv", *stubs} <= names
