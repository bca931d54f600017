"""Named arrays and one JSON text in a safetensors file: no code in it, and none runs when it is read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import save as serialised

from prune_jax import atomic

HEADER = "prune_jax"  # the key of the JSON text in the file's metadata
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def write(path: Path, arrays: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Write the file whole or not at all. Raises ValueError on a dtype that safetensors has no name for."""
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES.values():
            raise ValueError(
                f"leaf {name!r} is of dtype {array.dtype}, which safetensors can't hold; convert it to one of "
                f"{', '.join(DTYPES.values())}"
            )
    # In C order, and of rank 0 too: ascontiguousarray would make it rank 1.
    dense = {name: np.require(np.asarray(array), requirements="C") for name, array in arrays.items()}
    data = serialised(dense, {HEADER: json.dumps(header)})
    with atomic.writing(path) as file:
        file.write(data)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the JSON text. Raises ValueError where the file isn't one of ``write``."""
    data = path.read_bytes()
    try:
        found = safetensors.deserialize(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][HEADER])
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a file of prune_jax.save, or was damaged: {error}") from error
    return {name: _array(path, name, part) for name, part in found}, header


def _array(path: Path, name: str, part: Mapping[str, Any]) -> np.ndarray:
    if part["dtype"] not in DTYPES:
        raise ValueError(
            f"leaf {name!r} of {path} is of dtype {part['dtype']}, which this version can't read"
        )
    return np.frombuffer(part["data"], jnp.dtype(DTYPES[part["dtype"]])).reshape(part["shape"])


def on_device(name: str, array: np.ndarray) -> jax.Array:
    """The array as JAX holds it. Raises ValueError where JAX would silently make it narrower."""
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(
            f"leaf {name!r} is of dtype {array.dtype}, which JAX holds in 64-bit mode only: "
            "jax.config.update('jax_enable_x64', True)"
        )
    return jax.device_put(array)
