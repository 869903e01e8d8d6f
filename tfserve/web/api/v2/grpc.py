"""The gRPC service of version 2: all methods except inference, with the same information as the REST API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from tfserve.access.principals import Scope
from tfserve.errors import Unsupported
from tfserve.ipc.messages import IsReady
from tfserve.web.api.endpoint import Context
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.v2 import metadata, repository, statistics
from tfserve.web.api.v2.core import model_of, versions_of
from tfserve.web.api.v2.grpc_infer import Infer
from tfserve.web.predictions.live_models import LiveModels, NoSuchModel, NoSuchVersion
from tfserve.web.rpc import Call, Service, StreamMethod, Unary

NAME = "inference.GRPCInferenceService"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Methods:
    """All methods except inference."""

    context: Context
    models: LiveModels

    async def server_live(self, _: v2.ServerLiveRequest, __: Call) -> v2.ServerLiveResponse:
        return v2.ServerLiveResponse(live=True)

    async def server_ready(self, _: v2.ServerReadyRequest, __: Call) -> v2.ServerReadyResponse:
        is_ready = await self.context.line.ask(IsReady())
        return v2.ServerReadyResponse(ready=is_ready)

    async def model_ready(self, request: v2.ModelReadyRequest, _: Call) -> v2.ModelReadyResponse:
        try:
            model = model_of(self.models, request.name, request.version or None)
        except (NoSuchModel, NoSuchVersion):
            return v2.ModelReadyResponse(ready=False)
        return v2.ModelReadyResponse(ready=model.is_ready)

    async def server_metadata(self, _: v2.ServerMetadataRequest, __: Call) -> v2.ServerMetadataResponse:
        return _from_json(metadata.server(), v2.ServerMetadataResponse())

    async def model_metadata(self, request: v2.ModelMetadataRequest, _: Call) -> v2.ModelMetadataResponse:
        model = model_of(self.models, request.name, request.version or None)
        content = metadata.model(model, self.models) | {"properties": metadata.properties(model)}
        return _from_json(content, v2.ModelMetadataResponse())

    async def model_config(self, request: v2.ModelConfigRequest, _: Call) -> v2.ModelConfigResponse:
        model = model_of(self.models, request.name, request.version or None)
        return v2.ModelConfigResponse(config=_from_json(metadata.config(model), v2.ModelConfig()))

    async def model_statistics(self, request: v2.ModelStatisticsRequest, _: Call) -> v2.ModelStatisticsResponse:
        chosen = versions_of(self.models, request.name, request.version or None) if request.name else self.models
        return _from_json(await statistics.model_stats(chosen, self.context.line), v2.ModelStatisticsResponse())

    async def repository_index(self, request: v2.RepositoryIndexRequest, _: Call) -> v2.RepositoryIndexResponse:
        _check_repository(request.repository_name)
        index = await repository.index(self.context, only_ready=request.ready)
        return v2.RepositoryIndexResponse(models=[v2.RepositoryIndexResponse.ModelIndex(**each) for each in index])

    async def load(self, request: v2.RepositoryModelLoadRequest, _: Call) -> v2.RepositoryModelLoadResponse:
        _check_repository(request.repository_name)
        await repository.load(self.context, request.model_name, _parameters(request))
        return v2.RepositoryModelLoadResponse()

    async def unload(self, request: v2.RepositoryModelUnloadRequest, _: Call) -> v2.RepositoryModelUnloadResponse:
        _check_repository(request.repository_name)
        await repository.unload(self.context, request.model_name)
        return v2.RepositoryModelUnloadResponse()


def _parameters(request: v2.RepositoryModelLoadRequest) -> dict[str, Any]:
    chosen = {name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()}
    return {name: getattr(request.parameters[name], choice) if choice else None for name, choice in chosen.items()}


def service(context: Context, models: LiveModels) -> Service:
    methods, infer = Methods(context, models), Infer(models)
    return Service(
        NAME,
        {
            "ModelInfer": Unary(v2.ModelInferRequest, v2.ModelInferResponse, infer.one, is_eager=True),
            "ModelStreamInfer": StreamMethod(v2.ModelInferRequest, v2.ModelStreamInferResponse, infer.stream),
            "ServerLive": Unary(v2.ServerLiveRequest, v2.ServerLiveResponse, methods.server_live, None),
            "ServerReady": Unary(v2.ServerReadyRequest, v2.ServerReadyResponse, methods.server_ready, None),
            "ModelReady": Unary(v2.ModelReadyRequest, v2.ModelReadyResponse, methods.model_ready),
            "ServerMetadata": Unary(v2.ServerMetadataRequest, v2.ServerMetadataResponse, methods.server_metadata),
            "ModelMetadata": Unary(v2.ModelMetadataRequest, v2.ModelMetadataResponse, methods.model_metadata),
            "ModelConfig": Unary(v2.ModelConfigRequest, v2.ModelConfigResponse, methods.model_config),
            "ModelStatistics": Unary(v2.ModelStatisticsRequest, v2.ModelStatisticsResponse, methods.model_statistics),
            "RepositoryIndex": Unary(v2.RepositoryIndexRequest, v2.RepositoryIndexResponse, methods.repository_index),
            "RepositoryModelLoad": Unary(
                v2.RepositoryModelLoadRequest, v2.RepositoryModelLoadResponse, methods.load, Scope.SUBMIT
            ),
            "RepositoryModelUnload": Unary(
                v2.RepositoryModelUnloadRequest, v2.RepositoryModelUnloadResponse, methods.unload, Scope.SUBMIT
            ),
        },
    )


def _from_json(content: dict[str, Any], message: M) -> M:
    """The message for the JSON that REST returns. Members without a field in the message are omitted."""
    return ParseDict(content, message, ignore_unknown_fields=True)


def _check_repository(name: str) -> None:
    if name:
        raise Unsupported(
            f"This server has a single repository, which has no name; got {name[:80]!r}. Omit repository_name."
        )
