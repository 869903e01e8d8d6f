"""Descriptions of models: list, status and signatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tfserve.tensors.casting import cast
from tfserve.tensors.dtypes import V1_NAMES
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.waking import SLEEPING

STATES = {
    "loading": "LOADING", "active": "AVAILABLE", "sleeping": "AVAILABLE", "draining": "UNLOADING", "failed": "END"
}  # fmt: skip
"""A sleeping model is available, because the next request is computed."""


def model_list(models: Iterable[Model]) -> dict[str, Any]:
    """Every version of every model. TensorFlow Serving has no such list and returns 400."""
    return {
        "models": [
            {
                "name": model.name,
                "version": str(model.version),
                "state": _state(model),
                "sleeping": model.state == SLEEPING,
                "format": model.info.format,
                "runtime": model.info.runtime,
                "signatures": list(model.signatures),
            }
            for model in models
        ]
    }


def status(versions: Iterable[Model]) -> dict[str, Any]:
    """Each version once, although it may be served twice for a moment."""
    found = {(model.version, _state(model)): _status(model) for model in versions}
    return {"model_version_status": list(found.values())}


def metadata(model: Model) -> dict[str, Any]:
    """The metadata. Remarks are only added if there are any, because strict clients may reject unknown fields."""
    signatures = {name: _signature(each) for name, each in model.signatures.items()}
    found: dict[str, Any] = {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
    return found | ({"remarks": model.info.remarks} if model.info.remarks else {})


def _state(model: Model) -> str:
    if model.state == "active" and not model.is_ready:
        return "LOADING"  # its worker died and is being restarted
    return STATES.get(model.state, "UNKNOWN")


def _status(model: Model) -> dict[str, Any]:
    readiness = "OK" if model.is_ready else "UNAVAILABLE"
    code = {"failed": "UNKNOWN", "active": readiness, SLEEPING: readiness}.get(model.state, "OK")
    message = model.info.reason if code != "OK" else ""
    return {
        "version": str(model.version),
        "state": _state(model),
        "status": {"error_code": code, "error_message": message},
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor(spec) for spec in signature.takes},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": f"tensorflow/serving/{signature.method or 'predict'}",
        "defaults": {spec.name: _default(spec) for spec in signature.optional if spec.default is not None},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in spec.shape or ()]
    found = {
        "dtype": V1_NAMES.get(spec.dtype, "DT_INVALID"),
        "tensor_shape": {"dim": sizes, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
    return found if spec.quantization is None else {**found, "quantization": msgspec.to_builtins(spec.quantization)}


def _default(spec: TensorSpec) -> dict[str, Any]:
    """A TensorProto. Its libraries are loaded only for a model that needs them: a web process without gRPC has none."""
    from google.protobuf.json_format import MessageToDict

    from tfserve.web.api.protos.tensorflow_pb2 import TensorProto
    from tfserve.web.api.v1 import tensor_proto

    proto = TensorProto()
    tensor_proto.fill(proto, cast(spec.default, spec, spec.name))
    found: dict[str, Any] = MessageToDict(proto, preserving_proto_field_name=True)
    return found
