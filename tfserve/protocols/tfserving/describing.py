"""What is told of models: their list, their state, their signatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tfserve.serving.models import Model
from tfserve.tensors import Signature, TensorSpec

#: TensorFlow's names for types, in its own protocol.
DATA_TYPES = {
    "bool": "DT_BOOL", "uint8": "DT_UINT8", "uint16": "DT_UINT16", "uint32": "DT_UINT32", "uint64": "DT_UINT64",
    "int8": "DT_INT8", "int16": "DT_INT16", "int32": "DT_INT32", "int64": "DT_INT64",
    "float16": "DT_HALF", "bfloat16": "DT_BFLOAT16", "float32": "DT_FLOAT", "float64": "DT_DOUBLE",
    "complex64": "DT_COMPLEX64", "complex128": "DT_COMPLEX128", "string": "DT_STRING",
}  # fmt: skip

STATES = {"loading": "LOADING", "active": "AVAILABLE", "draining": "UNLOADING", "failed": "END"}


def model_list(models: Iterable[Model]) -> dict[str, Any]:
    """Every version of every model. TensorFlow Serving has no such list: it answers 400."""
    return {
        "models": [
            {
                "name": model.name,
                "version": str(model.version),
                "state": _state(model),
                "format": model.told.format,
                "runtime": model.told.runtime,
                "signatures": list(model.signatures),
            }
            for model in models
        ]
    }


def status(versions: Iterable[Model]) -> dict[str, Any]:
    return {"model_version_status": [_status(model) for model in versions]}


def metadata(model: Model) -> dict[str, Any]:
    """Also what users must know of the model, where there is anything: clients that read strictly find no new field."""
    signatures = {name: _signature(each) for name, each in model.signatures.items()}
    found: dict[str, Any] = {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
    return found | ({"remarks": model.told.remarks} if model.told.remarks else {})


def _state(model: Model) -> str:
    if model.state == "active" and not model.is_ready:
        return "LOADING"  # its worker has died and is started again
    return STATES.get(model.state, "UNKNOWN")


def _status(model: Model) -> dict[str, Any]:
    code = {"failed": "UNKNOWN", "active": "OK" if model.is_ready else "UNAVAILABLE"}.get(model.state, "OK")
    message = model.told.reason if code != "OK" else ""
    return {
        "version": str(model.version),
        "state": _state(model),
        "status": {"error_code": code, "error_message": message},
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": f"tensorflow/serving/{signature.method or 'predict'}",
        "defaults": {},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in spec.shape or ()]
    found = {
        "dtype": DATA_TYPES.get(spec.dtype, "DT_INVALID"),
        "tensor_shape": {"dim": sizes, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
    return found if spec.quantization is None else {**found, "quantization": msgspec.to_builtins(spec.quantization)}
