"""A network as one file that runs without its code: StableHLO by ``jax.export``, or ONNX."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export  # the submodule isn't loaded by jax itself
import jax.numpy as jnp
import numpy as np

from prune_jax import atomic
from prune_jax.pruning.module.remake import first_line
from prune_jax.pruning.shipping.numbers import numbers
from prune_jax.pruning.shipping.onnx_file import onnx_bytes
from prune_jax.pruning.shipping.plain import by_example

# Of sums in another order, relative to the largest output. Another network differs by far more.
TOLERANCE = 1e-4
Function = Callable[..., Any]


def export(
    pruned: Any, x: Any, path: str | Path, *, variables: Any = None, platforms: Sequence[str] | None = None
) -> Path:
    """Write the network with its numbers to one file, for any batch size, and check the file against the network.

    A path that ends in ``.onnx`` gets ONNX, any other one StableHLO as ``jax.export`` serialises it. Both need
    ``pip install 'prune_jax[export]'``. StableHLO runs with JAX alone::

        network = jax.export.deserialize(bytearray(open(path, "rb").read()))
        y = network.call(x)

    Args:
      pruned: what ``prune`` or ``load`` gave. Or any object with ``apply`` and ``variables``.
      x: an input of the network, or a tuple of inputs. The first axis of each is the batch, of any size but 0. Examples
        of a batch must not influence each other.
      path: the file, written whole or not at all.
      variables: the trained variables, as ``save`` takes them. By default those of ``pruned.model`` as they are now
        where that is an ``nnx.Module``, else ``pruned.variables``.
      platforms: of StableHLO, where it is to run: 'cpu', 'cuda', 'rocm', 'tpu'. By default where this process runs.

    Returns:
      The path.

    Raises:
      ImportError: a package of the extra ``[export]`` isn't installed.
      ValueError: the network can't be written for any batch size, or the file gives other values for ``x``.

    Example:
      >>> import tempfile
      >>> import prune_jax
      >>> target = lambda p, x: x @ p["a"] @ p["b"], {"a": jnp.ones((2, 4)), "b": jnp.ones((4, 1))}
      >>> pruned = prune_jax.prune(target, jnp.ones((1, 2)), ratio=0.5)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = export(pruned, jnp.ones((1, 2)), Path(folder) / "small.stablehlo")
      ...     network = jax.export.deserialize(bytearray(path.read_bytes()))
      >>> network.call(jnp.ones((3, 2))).tolist()
      [[4.0], [4.0], [4.0]]
    """
    path, inputs = Path(path), x if isinstance(x, tuple) else (x,)
    _check_batch(inputs)
    trained = numbers(pruned, variables)
    wanted = jax.jit(pruned.apply)(trained, *inputs)

    def network(*xs: Any) -> Any:
        return pruned.apply(trained, *xs)

    if path.suffix == ".onnx":
        data, found = _onnx(network, inputs)
    else:
        data, found = _for_any_batch(network, inputs, platforms)
    _compare(found, wanted, path)
    with atomic.writing(path) as file:
        file.write(data)
    return path


def _check_batch(inputs: tuple[Any, ...]) -> None:
    sizes = {np.shape(x)[:1] for x in inputs}
    if len(sizes) != 1 or not all(sizes):
        shapes = ", ".join(str(np.shape(x)) for x in inputs)
        raise ValueError(f"x has shapes {shapes}; every input needs a first axis, the batch, of one size")


def _for_any_batch(
    network: Function, inputs: tuple[Any, ...], platforms: Sequence[str] | None
) -> tuple[bytes, Any]:
    """The network's own code for a batch of unknown size, or one example's mapped over the batch."""
    try:
        return _stable_hlo(network, inputs, platforms)
    except ImportError:
        raise
    except Exception as first:  # whatever code raises that wants to know the batch's size
        try:
            return _stable_hlo(by_example(network, inputs), inputs, platforms)
        except ImportError:
            raise
        except Exception as second:
            raise ValueError(
                f"the network can't be exported for any batch size: {first_line(first)}; "
                f"by example: {first_line(second)}"
            ) from second


def _onnx(network: Function, inputs: tuple[Any, ...]) -> tuple[bytes, Any]:
    try:
        return onnx_bytes(by_example(network, inputs), inputs)
    except ImportError:
        raise
    except Exception as error:  # of jax2onnx, onnxruntime or the network's code
        raise ValueError(f"the network can't be written as ONNX by jax2onnx: {first_line(error)}") from error


def _stable_hlo(
    network: Function, inputs: tuple[Any, ...], platforms: Sequence[str] | None
) -> tuple[bytes, Any]:
    (batch,) = jax.export.symbolic_shape("batch")
    specs = [jax.ShapeDtypeStruct((batch, *np.shape(x)[1:]), jnp.result_type(x)) for x in inputs]
    exported = jax.export.export(jax.jit(network), platforms=platforms)(*specs)
    try:
        data = bytes(exported.serialize())
    except ImportError as error:
        raise ImportError(f"serialising needs a package: {error}: pip install 'prune_jax[export]'") from error
    if platforms is not None and jax.default_backend() not in platforms:
        return data, None
    return data, jax.export.deserialize(bytearray(data)).call(*inputs)


def _compare(found: Any, wanted: Any, path: Path) -> None:
    if found is None:  # written for a device that isn't here
        return
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        a, b = (np.asarray(jnp.asarray(y, jnp.float32)) for y in (a, b))
        if a.shape != b.shape or not np.allclose(
            a, b, rtol=TOLERANCE, atol=TOLERANCE * np.abs(b).max(initial=0)
        ):
            raise ValueError(
                f"{path.name} would give other values than the network: for any batch size its code computes something "
                "else; let examples of a batch not influence each other"
            )
