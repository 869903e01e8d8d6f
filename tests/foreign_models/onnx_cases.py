"""ONNX's own test cases for backends: a model of each operator with inputs and the outputs that are right.

The wheel of `onnx` ships them as files. It is unpacked, not installed, since only the files are wanted.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

WHEEL = "onnx==1.17.0"
"""The last release whose cases the goals were set by: 1,428 models."""


@dataclass(frozen=True)
class Case:
    """One model with its first set of data. Values that are no tensors (sequences, optionals) are None."""

    name: str
    model: Path
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    @property
    def is_of_tensors(self) -> bool:
        return all(value is not None for value in (*self.inputs.values(), *self.outputs.values()))


def unpack(folder: Path) -> Path:
    """The folder of all cases, below `folder`, downloaded once."""
    cases = folder / WHEEL / "onnx" / "backend" / "test" / "data"
    if not cases.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("onnx-*.whl"))) as wheel:
            wheel.extractall(folder / WHEEL)
    return cases


def find(cases: Path) -> list[Path]:
    return sorted(model.parent for model in cases.glob("*/*/model.onnx"))


def read(folder: Path) -> Case:
    """Raises whatever ONNX raises about a file."""
    import onnx

    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    typed = {each.name: each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)}
    constants = {each.name for each in graph.initializer}
    inputs = [each.name for each in graph.input]
    data = folder / "test_data_set_0"
    if len(list(data.glob("input_*.pb"))) < len(inputs):
        inputs = [name for name in inputs if name not in constants]
    return Case(
        f"{folder.parent.name}/{folder.name}",
        folder / "model.onnx",
        {
            name: _tensor(data / f"input_{n}.pb", typed[name])
            for n, name in enumerate(inputs)
            if (data / f"input_{n}.pb").exists()
        },
        {each.name: _tensor(data / f"output_{n}.pb", typed[each.name]) for n, each in enumerate(graph.output)},
    )


def _tensor(file: Path, elem_type: int) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        array = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
    except (DecodeError, ValueError, TypeError):
        return None
    # The cases keep bfloat16 as the 16 bits of each number.
    is_bits = elem_type == onnx.TensorProto.BFLOAT16 and array.dtype == np.uint16
    return array.view(ml_dtypes.bfloat16) if is_bits else array


def agree(expected: Any, found: Any) -> bool:
    """As ONNX Runtime's own runner compares: 1e-3 relative, 1e-5 absolute; text and whole numbers exactly."""
    found = np.asarray(found)
    if expected.shape != found.shape:
        return False
    if expected.dtype == object or expected.dtype.kind in "US":
        return bool(all(_text(one) == _text(other) for one, other in zip(expected.flat, found.flat, strict=True)))
    # The cases cut bfloat16 off where ONNX Runtime rounds: 8 bits are all that it has.
    rtol = 2**-7 if expected.dtype == ml_dtypes.bfloat16 else 1e-3
    return bool(
        np.allclose(expected.astype(np.float64), found.astype(np.float64), rtol=rtol, atol=1e-5, equal_nan=True)
    )


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
