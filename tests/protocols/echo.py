"""An echo model with an identity signature for every datatype of version 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfserve.tensors.dtypes import DTYPES

TABLE: dict[str, Any] = {dtype.v2: {"x": {"dtype": dtype.name, "shape": [-1, 3]}} for dtype in DTYPES.values()}
TWO: dict[str, Any] = {
    "a": {"dtype": "float32", "shape": [-1, 2]},
    "b": {"dtype": "string", "shape": [-1]},
}


def write(path: Path, default: dict[str, Any] | None = None, **signatures: Any) -> Path:
    """Writes the file of an echo model whose default signature takes FP32 `x` [-1, 3] unless told otherwise."""
    default = default or {"x": {"dtype": "float32", "shape": [-1, 3]}}
    path.write_text(json.dumps({"signatures": {"serving_default": default, **TABLE, **signatures}}))
    return path
