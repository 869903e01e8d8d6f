"""Metadata of the server and its models, and the model configuration in Triton's format."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

import tfserve
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.predictions.live_models import LiveModels, Model

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


def model(model: Model, models: LiveModels) -> dict[str, Any]:
    """A size of -1 is any size; the shape of a tensor of any rank is [-1].

    `parameters` has the remarks (notes for users of the model) and the `quantization` of integer tensors. In KServe's
    gRPC these are the `properties`.
    """
    signature = _default(model)
    found: dict[str, Any] = {
        "name": model.name,
        "versions": [str(each.version) for each in models.versions(model.name)],
        "platform": platform(model),
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
    }
    parameters = _parameters(model)
    return found | ({"parameters": parameters} if parameters else {})


def properties(model: Model) -> dict[str, str]:
    """The parameters of the metadata as text, as in KServe's gRPC API."""
    found = _parameters(model)
    texts = {"remarks": "\n".join(found["remarks"])} if "remarks" in found else {}
    if "quantization" in found:
        texts["quantization"] = orjson.dumps(found["quantization"]).decode()
    return texts


def _parameters(model: Model) -> dict[str, Any]:
    """The remarks, and the quantization parameters by tensor name."""
    signature = _default(model)
    quantized = {
        spec.name: msgspec.to_builtins(spec.quantization)
        for spec in (*signature.inputs, *signature.outputs)
        if spec.quantization is not None
    }
    found = {"remarks": model.info.remarks, "quantization": quantized}
    return {name: value for name, value in found.items() if value}


def config(model: Model) -> dict[str, Any]:
    """The configuration as far as it is known without running the model. `dims` do not include the batch size."""
    signature = _default(model)
    specs = (*signature.inputs, *signature.outputs)
    is_batched = bool(specs) and all(spec.is_batched for spec in specs)
    most = model.info.options.max_batch_size if is_batched else 0
    found: dict[str, Any] = {
        "name": model.name,
        "platform": platform(model),
        "backend": model.info.runtime or "tensorflow",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": most,
        "input": [
            *[_config_tensor(spec, is_batched) | {"format": "FORMAT_NONE"} for spec in signature.inputs],
            *[
                _config_tensor(spec, is_batched and spec.is_batched) | {"format": "FORMAT_NONE", "optional": True}
                for spec in signature.optional
            ],
        ],
        "output": [_config_tensor(spec, is_batched) | {"label_filename": ""} for spec in signature.outputs],
        "instance_group": [{"name": model.name, "kind": "KIND_CPU", "count": model.info.options.replicas}],
        "default_model_filename": "",
        "parameters": {
            name: {"string_value": text} for name, text in {**properties(model), **_concurrency(model)}.items()
        },
        "model_warmup": [],
    }
    if most > 1:
        delay_us = round(model.info.options.max_delay_s * 1e6)
        found["dynamic_batching"] = {"preferred_batch_size": [most], "max_queue_delay_microseconds": delay_us}
    return found


def _concurrency(model: Model) -> dict[str, str]:
    """How a process of the model computes at load. Triton has no such fields."""
    found = msgspec.to_builtins(model.info.concurrency) if model.info.concurrency is not None else {}
    return {name: str(value) for name, value in found.items()}


def platform(model: Model) -> str:
    """`<framework>_<format>`, with Triton's names for those that it knows."""
    known = PLATFORMS.get(model.info.format)
    return known or f"{model.info.runtime or 'tensorflow'}_{_NO_WORD.sub('', model.info.format.lower()) or 'model'}"


def datatype(spec: TensorSpec) -> str:
    """The protocol's name of the type, or the type's own name in capitals if it has none."""
    known = DTYPES.get(spec.dtype)
    return known.v2 if known is not None else spec.dtype.upper()


def _default(model: Model) -> Signature:
    """A model may have no signature. Then only the workspace API can run it."""
    return model.signatures.get(model.default_signature, Signature((), ()))


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype(spec), "shape": _dims(spec)}


def _dims(spec: TensorSpec) -> list[int]:
    return [-1] if spec.shape is None else list(spec.shape)


def _config_tensor(spec: TensorSpec, is_batched: bool) -> dict[str, Any]:
    dims = _dims(spec)[1:] if is_batched else _dims(spec)
    name = datatype(spec)
    return {"name": spec.name, "data_type": "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}", "dims": dims}
