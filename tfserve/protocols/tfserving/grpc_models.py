"""GetModelMetadata and GetModelStatus: what a model is, and how it is, as REST tells it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.json_format import ParseDict

from tfserve.errors import Invalid, Unsupported
from tfserve.protocols.protos import tfserving_pb2 as v1
from tfserve.protocols.tfserving import describing
from tfserve.protocols.tfserving.grpc_specs import answering_spec, model_of, version_of
from tfserve.serving.models import Models
from tfserve.serving.rpc import Call

SIGNATURES = "signature_def"


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
        told = describing.metadata(model)["metadata"][SIGNATURES]
        answer.metadata[SIGNATURES].Pack(ParseDict(told, v1.SignatureDefMap(), ignore_unknown_fields=True))
        return answer

    async def status(self, request: v1.GetModelStatusRequest, _: Call) -> v1.GetModelStatusResponse:
        """Of one version, or of all that are known."""
        model = model_of(self.models, request.model_spec)
        asked_for_one = version_of(request.model_spec) is not None
        chosen = [model] if asked_for_one else self.models.versions(model.name)
        return ParseDict(describing.status(chosen), v1.GetModelStatusResponse())

    async def reload(self, _: v1.ReloadConfigRequest, __: Call) -> v1.ReloadConfigResponse:
        raise Unsupported(
            "This server has no list of models to be replaced. A model is deployed in a workspace: POST /deploy/, or"
            " RepositoryModelLoad of inference.GRPCInferenceService."
        )
