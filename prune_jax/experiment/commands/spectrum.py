"""``python -m prune_jax spectrum --checkpoint=RUN``: Jacobian singular values of a finished stage, table and PNG."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prune_jax.fairness import JSVSummary

Draw = Callable[[Mapping[str, JSVSummary], str, Path], bool]
OF_A_TEXT = 16  # examples, where none are asked for: each is a Jacobian with a row for every byte there is


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``spectrum``."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a finished stage: WORKDIR/stages/ID, or WORKDIR/ID; the first digits of the id are enough",
    )
    parser.add_argument("--dataset", help="another data set than the stage's, of the same input shape")
    parser.add_argument("--data_dir", help="where data sets are; by default TFDS's own folder")
    parser.add_argument(
        "--examples", type=int, help="test examples; by default 512, of a text 16, or all if fewer"
    )
    parser.add_argument(
        "--chunk", type=int, help="outputs pulled back at once; by default as many as fit cache and memory"
    )
    parser.add_argument("--batch", type=int, default=64, help="examples at once (64); less takes less memory")
    parser.add_argument(
        "--weights",
        action="store_true",
        help="also how far each kernel is from an isometry, before and after",
    )
    parser.add_argument("--png", help="where the histogram goes; by default WORKDIR/figures/spectrum_ID.png")


def run(args: argparse.Namespace, draw: Draw) -> int:
    """Print the table and draw the histogram. Returns 0, or 2 with one line on bad input."""
    from prune_jax.experiment.commands.refusals import exit_code

    return exit_code("spectrum", lambda: report(args, draw))


def report(args: argparse.Namespace, draw: Draw) -> None:
    """Measure, print, draw. An error that ``run`` knows, naming what is wrong, before anything is measured."""
    from prune_jax import trainability
    from prune_jax.experiment import twins
    from prune_jax.experiment.chain import restore
    from prune_jax.experiment.commands import spectrum_images, spectrum_text
    from prune_jax.experiment.training import measure
    from prune_jax.experiment.training.judging import jacobian_of

    for name in ("examples", "chunk", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}={value}: it must be at least 1")
    root, stage_id = find_stage(args.checkpoint)
    store = reading(root)
    network = restore.load(store, stage_id)
    refuse_not_finite(network.variables, stage_id)
    name = args.dataset or network.data.name
    if network.data.window:
        found = spectrum_images.images(network, name, args.data_dir, args.examples or None)
        tokens = found if args.examples else found[:OF_A_TEXT]
        apply, floats = jacobian_of(twins.network_of(network), network.data, network.variables, tokens)
    else:
        floats = spectrum_images.images(network, name, args.data_dir, args.examples)
        apply = twins.evaluated(network)
    batches = (floats[i : i + args.batch] for i in range(0, len(floats), args.batch))
    spectrum = trainability.spectrum(apply, batches, chunk=args.chunk)
    print(f"stage {stage_id}: {network.model.name}, {len(floats)} test examples of {name}\n")
    print(spectrum_text.table(spectrum))
    if args.weights:
        print(f"\n{spectrum_text.weights_table(*weights(store, stage_id, network))}")
    png = Path(args.png) if args.png else root / "figures" / f"spectrum_{stage_id}.png"
    title = f"{network.model.name}, stage {stage_id}, {len(floats)} examples of {name}"
    drawn = draw({f"stage {stage_id}": measure.summary(spectrum)}, title, png)
    print(f"\nhistogram: {png}" if drawn else "\nno histogram: it needs matplotlib, pip install matplotlib")


def weights(store: Any, stage_id: str, network: Any) -> tuple[dict[str, Any], float]:
    """Params to be held beside each other, by name, and recovery's gain.

    A sparsify stage gives 'dense', 'pruned' and, if it recovers, 'recovered'. Another stage gives its own alone.
    """
    from prune_jax.experiment.chain import restore
    from prune_jax.experiment.storage.stages import read_stage

    about = read_stage(store, stage_id) or {}
    if "keep" not in about or about["spec"].get("granularity") == "depth":  # other kernels are left
        return {"this stage": network.variables["params"]}, 1.0
    dense = restore.load(store, about["parent"])
    states = {"dense": dense, "pruned": network}
    if about["spec"].get("recovery", "none") != "none":
        cut = restore.load(store, stage_id, before_recovery=True)
        states |= {"pruned": cut, "recovered": network}
    gain = about["spec"].get("recovery_gain", 1.0)
    return {name: state.variables["params"] for name, state in states.items()}, gain


def find_stage(path: str) -> tuple[Path, str]:
    """The workdir and the full id of a finished stage.

    Raises ValueError for a folder that is no workdir, an unknown id, one that several stages begin with, and a stage
    that is not finished. The message lists what there is.
    """
    given = Path(path)
    root = given.parent.parent if given.parent.name == "stages" else given.parent
    if (given / "stages").is_dir():
        raise ValueError(f"--checkpoint={path} is a workdir; name a stage in it: {_some(given)}")
    if not (root / "stages").is_dir():
        raise ValueError(
            f"--checkpoint={path} is no stage: {root} holds no folder 'stages' and so is no workdir; give "
            "WORKDIR/stages/ID"
        )
    found = sorted(
        folder.name for folder in (root / "stages").iterdir() if folder.name.startswith(given.name)
    )
    if not found:
        raise ValueError(f"--checkpoint={path}: no stage begins with {given.name!r}; {_some(root)}")
    if len(found) > 1:
        raise ValueError(
            f"--checkpoint={path}: several stages begin with {given.name!r}: {', '.join(found[:5])}"
        )
    if not (root / "stages" / found[0] / "stage.json").is_file():
        raise ValueError(
            f"--checkpoint={path}: stage {found[0]} is not finished; run its experiment to its end"
        )
    return root, found[0]


def _some(root: Path) -> str:
    names = sorted(path.parent.name for path in (root / "stages").glob("*/stage.json"))
    return f"{len(names)} are finished, such as {', '.join(names[:3])}" if names else "none is finished"


def reading(root: Path) -> Any:
    """The store of a workdir, for reading."""
    import orbax.checkpoint as ocp

    from prune_jax.experiment.storage.leases import open_locks
    from prune_jax.experiment.storage.stages import Store

    return Store(root, ocp.StandardCheckpointer(), open_locks(root))


def refuse_not_finite(variables: Any, stage_id: str) -> None:
    """Raise ValueError, naming the leaf, for variables that hold NaN or infinity."""
    import jax
    import numpy as np

    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if not np.isfinite(np.asarray(leaf)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"leaf {name!r} of stage {stage_id} holds NaN or infinity: this network has diverged"
            )
