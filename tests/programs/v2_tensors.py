"""The tensors that the clients under test send and want back, one for each datatype."""

from __future__ import annotations

import ml_dtypes
import numpy as np

FLOATS = {"FP16": np.float16, "BF16": ml_dtypes.bfloat16, "FP32": np.float32, "FP64": np.float64}
INTEGERS = {f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)}
DATATYPES = ("BOOL", *INTEGERS, *FLOATS, "BYTES")
ROWS = 300


def example(datatype: str, rows: int = ROWS) -> np.ndarray:
    """An array of shape [rows, 3] with the extremes of its type, repeated so that it can be compressed."""
    if datatype == "BYTES":
        row = np.array([b"", "Grüße ☀".encode(), b"abc"], dtype=np.object_)
    elif datatype == "BOOL":
        row = np.array([True, False, True])
    elif datatype in INTEGERS:
        limits = np.iinfo(INTEGERS[datatype])
        row = np.array([limits.min, 7, limits.max], INTEGERS[datatype])
    else:
        row = np.array([-1.5, 0.1, 3e4], FLOATS[datatype])
    return np.tile(row, (rows, 1))


def same(given: np.ndarray, wanted: np.ndarray) -> bool:
    """KServe's client gives texts back as texts."""
    if given.dtype == np.object_:
        given = np.array([each.encode() if isinstance(each, str) else each for each in given.ravel()]).reshape(
            given.shape
        )
    return given.shape == wanted.shape and given.tolist() == wanted.tolist()
