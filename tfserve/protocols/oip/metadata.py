"""What the server and its models are: metadata, and the model configuration in Triton's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

import tfserve
from tfserve.serving.models import Model
from tfserve.tensors import DTYPES, Signature, TensorSpec

EXTENSIONS = (
    "binary_tensor_data", "classification", "model_configuration", "model_repository",
    "model_repository(unload_dependents)", "parameters", "statistics",
)  # fmt: skip
PLATFORMS = {
    "SavedModel": "tensorflow_savedmodel",
    "TF1 meta graph": "tensorflow_graphdef",
    "ONNX file": "onnxruntime_onnx",
}
_NO_WORD = re.compile(r"[^a-z0-9]+")


def server() -> dict[str, Any]:
    return {"name": "tfserve", "version": tfserve.__version__, "extensions": EXTENSIONS}


def model(model: Model, versions: Sequence[Model]) -> dict[str, Any]:
    """A size of -1 is any size; where even the rank is open, the shape is [-1].

    `parameters` has the remarks, what users of the model must know, and the `quantization` of integer tensors. In
    KServe's gRPC they are the `properties`.
    """
    signature = _default(model)
    found: dict[str, Any] = {
        "name": model.name,
        "versions": [str(each.version) for each in versions],
        "platform": platform(model),
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }
    parameters = _parameters(model)
    return found | ({"parameters": parameters} if parameters else {})


def properties(model: Model) -> dict[str, str]:
    """The parameters of the metadata as KServe's gRPC has them: text only."""
    found = _parameters(model)
    texts = {"remarks": "\n".join(found["remarks"])} if "remarks" in found else {}
    if "quantization" in found:
        texts["quantization"] = orjson.dumps(found["quantization"]).decode()
    return texts


def _parameters(model: Model) -> dict[str, Any]:
    """The remarks, and what the integers of quantized tensors stand for, by the names of these."""
    signature = _default(model)
    quantized = {
        spec.name: msgspec.to_builtins(spec.quantization)
        for spec in (*signature.inputs, *signature.outputs)
        if spec.quantization is not None
    }
    found = {"remarks": model.told.remarks, "quantization": quantized}
    return {name: value for name, value in found.items() if value}


def config(model: Model) -> dict[str, Any]:
    """As far as it is known before the model computes. Sizes of a batch are not among the `dims`."""
    signature = _default(model)
    specs = (*signature.inputs, *signature.outputs)
    is_batched = bool(specs) and all(spec.is_batched for spec in specs)
    most = model.told.options.max_batch_size if is_batched else 0
    found: dict[str, Any] = {
        "name": model.name,
        "platform": platform(model),
        "backend": model.told.runtime or "tensorflow",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most,
        "input": [_config_tensor(spec, is_batched) | {"format": "FORMAT_NONE"} for spec in signature.inputs],
        "output": [_config_tensor(spec, is_batched) | {"label_filename": ""} for spec in signature.outputs],
        "instance_group": [{"name": model.name, "kind": "KIND_CPU", "count": model.told.options.replicas}],
        "default_model_filename": "",
        "parameters": {name: {"string_value": text} for name, text in properties(model).items()},
        "model_warmup": [],
    }
    if most > 1:
        delay_us = round(model.told.options.max_delay_s * 1e6)
        found["dynamic_batching"] = {"preferred_batch_size": [most], "max_queue_delay_microseconds": delay_us}
    return found


def platform(model: Model) -> str:
    """`<framework>_<format>`, as Triton calls them where it knows them."""
    known = PLATFORMS.get(model.told.format)
    return known or f"{model.told.runtime or 'tensorflow'}_{_NO_WORD.sub('', model.told.format.lower()) or 'model'}"


def datatype(spec: TensorSpec) -> str:
    """The protocol's name of the type; for one that it has no name for, the type's own in capitals."""
    known = DTYPES.get(spec.dtype)
    return known.v2 if known is not None else spec.dtype.upper()


def _default(model: Model) -> Signature:
    """A model may have no signature at all: then it can only be asked through the workspace API."""
    return model.signatures.get(model.default_signature(), Signature((), ()))


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec), "shape": _dims(spec)}


def _dims(spec: TensorSpec) -> list[int]:
    return [-1] if spec.shape is None else list(spec.shape)


def _config_tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    dims = _dims(spec)[1:] if is_batched else _dims(spec)
    name = datatype(spec)
    return {"name": spec.name, "data_type": "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}", "dims": dims}
