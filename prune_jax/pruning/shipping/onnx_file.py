"""ONNX through jax2onnx, an optional package."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"writing ONNX needs {name}, which can't be imported ({error}): pip install 'prune_jax[export]'"
        ) from error


def onnx_bytes(network: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[bytes, list[np.ndarray]]:
    """The network as ONNX with a batch of any size, and what onnxruntime computes with it for these inputs.

    Raises:
      ImportError: jax2onnx or onnxruntime is missing.
      Exception: whatever jax2onnx raises on an operation that it can't write.
    """
    jax2onnx, runtime = _package("jax2onnx"), _package("onnxruntime")
    specs = [jax.ShapeDtypeStruct(("B", *np.shape(x)[1:]), jnp.result_type(x)) for x in inputs]
    names = [f"input_{k}" for k in range(len(inputs))]
    data = jax2onnx.to_onnx(network, specs, model_name="pruned", input_names=names).SerializeToString()
    running = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return data, running.run(None, dict(zip(names, map(np.asarray, inputs), strict=True)))
