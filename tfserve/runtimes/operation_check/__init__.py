"""Checks which operations a model's files contain, before anything of the model runs.

Operations that read or write files, call Python or open connections are refused, unless the operator of the server
allows them. Only the files are read; no runtime is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format, text_format
from google.protobuf.message import DecodeError

from tfserve.config import load as load_settings
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes.operation_check import litert_file, onnx_file, tensorflow_files
from tfserve.runtimes.operation_check.findings import Finding, UnsafeOperations, remark
from tfserve.runtimes.operation_check.operations import WHAT

__all__ = ["Finding", "UnsafeOperations", "are_allowed", "check", "find"]

_READERS: dict[str, Callable[[Path], list[Finding]]] = {
    formats.SAVED_MODEL: tensorflow_files.of_saved_model,
    formats.META_GRAPH: tensorflow_files.of_meta_graph,
    formats.FROZEN_GRAPH: tensorflow_files.of_frozen_graph,
    formats.TFJS_GRAPH: tensorflow_files.of_tfjs_graph,
    formats.LITERT: litert_file.of_file,
    formats.ONNX: onnx_file.of_file,
}
"""The formats whose operations can be unsafe. Keras files have a check of their own (`tfserve.runtimes.keras_file`).

OpenVINO and PaddlePaddle models and ONNX Runtime's own files have only operations that compute: their runtimes know no
others without a library that this server does not load.
"""

_DAMAGED = (
    DecodeError, json_format.ParseError, text_format.ParseError, ValueError, IndexError, RecursionError,
)  # fmt: skip


def are_allowed() -> bool:
    """Whether the operator allows unsafe operations. Every deployment needs a token with the scope `submit`."""
    return load_settings().allow_unsafe_ops


def check(model: Located, *, allow: bool) -> list[str]:
    """Remarks about unsafe operations that are allowed. Raises `UnsafeOperations` if they are not, else `Invalid`."""
    found = find(model)
    if not found:
        return []
    if allow:
        return [remark(found)]
    if unknown := [each.operation for each in found if each.what == WHAT["unknown"]]:
        raise Invalid(
            f"{model.path} can't be loaded as {model.format}: it uses the operation {unknown[0]!r}, which is not among"
            " the operations of TensorFlow that this server has. It is a custom operation (for example of TensorFlow"
            " Text or Addons) or was removed (such as those of tf.contrib). Export the model without it."
        )
    raise UnsafeOperations(model.path, found)


def find(model: Located) -> list[Finding]:
    """The unsafe operations of a model. Raises `Invalid` if its files are damaged or name files outside its folder."""
    read = _READERS.get(model.format)
    if read is None:
        return []
    try:
        return read(model.path)
    except Invalid:
        raise
    except _DAMAGED as error:
        raise Invalid(f"{model.path} is damaged: its graph can't be read. Save or copy it again. ({error})") from error
