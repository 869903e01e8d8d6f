"""GetModelMetadata and GetModelStatus: what a model is, and how it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfserve.errors import Invalid, Unsupported
from tfserve.protocols.protos import tensorflow_pb2 as tf
from tfserve.protocols.protos import tfserving_pb2 as v1
from tfserve.protocols.tfserving.grpc_specs import answering_spec, model_of, version_of
from tfserve.protocols.tfserving.grpc_tensors import data_type
from tfserve.serving.models import Model, Models
from tfserve.serving.rpc import Call, Status
from tfserve.tensors import Signature, TensorSpec

SIGNATURES = "signature_def"
PREDICT = "tensorflow/serving/predict"

_State = v1.ModelVersionStatus
STATES = {
    "loading": _State.LOADING,
    "active": _State.AVAILABLE,
    "draining": _State.UNLOADING,
    "failed": _State.END,
}


@dataclass(frozen=True)
class About:
    """The verbs that tell of models."""

    models: Models

    async def metadata(self, request: v1.GetModelMetadataRequest, _: Call) -> v1.GetModelMetadataResponse:
        if not request.metadata_field:
            raise Invalid(f"The request names no metadata_field. There is one: {SIGNATURES!r}.")
        for field in request.metadata_field:
            if field != SIGNATURES:
                raise Invalid(f"The metadata_field {field[:80]!r} is not known. There is one: {SIGNATURES!r}.")
        model = model_of(self.models, request.model_spec)
        answer = v1.GetModelMetadataResponse(model_spec=answering_spec(request.model_spec, model.version))
        answer.metadata[SIGNATURES].Pack(signatures(model))
        return answer

    async def status(self, request: v1.GetModelStatusRequest, _: Call) -> v1.GetModelStatusResponse:
        """Of one version, or of all that are known."""
        model = model_of(self.models, request.model_spec)
        asked_for_one = version_of(request.model_spec) is not None
        chosen = [model] if asked_for_one else self.models.versions(model.name)
        return v1.GetModelStatusResponse(model_version_status=map(_status, chosen))

    async def reload(self, _: v1.ReloadConfigRequest, __: Call) -> v1.ReloadConfigResponse:
        raise Unsupported(
            "This server has no list of models to be replaced. A model is deployed in a workspace: POST /deploy/, or"
            " RepositoryModelLoad of inference.GRPCInferenceService."
        )


def signatures(model: Model) -> v1.SignatureDefMap:
    """All signatures as TensorFlow describes them; tensors have the signature's names, not inner ones."""
    described = v1.SignatureDefMap()
    for name, signature in model.signatures.items():
        described.signature_def[name].CopyFrom(_signature(signature))
    return described


def _signature(signature: Signature) -> tf.SignatureDef:
    return tf.SignatureDef(
        inputs=_infos(signature.inputs),
        outputs=_infos(signature.outputs),
        method_name=getattr(signature, "method", None) or PREDICT,
    )


def _infos(specs: Iterable[TensorSpec]) -> dict[str, tf.TensorInfo]:
    return {
        spec.name: tf.TensorInfo(name=f"{spec.name}:0", dtype=data_type(spec.dtype), tensor_shape=_shape(spec))
        for spec in specs
    }


def _shape(spec: TensorSpec) -> tf.TensorShapeProto:
    if spec.shape is None:
        return tf.TensorShapeProto(unknown_rank=True)
    return tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in spec.shape])


def _status(model: Model) -> v1.ModelVersionStatus:
    code = Status.UNAVAILABLE if model.state == "failed" else Status.OK
    return v1.ModelVersionStatus(
        version=model.version,
        state=STATES[model.state],
        status=v1.StatusProto(error_code=code, error_message=model.told.reason if code else ""),
    )
