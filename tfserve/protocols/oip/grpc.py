"""The service of v2 over gRPC: its verbs, each a translation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tfserve import __version__
from tfserve.errors import Unsupported
from tfserve.protocols.oip import grpc_statistics
from tfserve.protocols.oip.grpc_infer import Infer, model_of
from tfserve.protocols.protos import oip_pb2 as v2
from tfserve.serving.models import Models, NoSuchModel, NoSuchVersion
from tfserve.serving.rpc import Call, Service, Stream, Unary

NAME = "inference.GRPCInferenceService"
EXTENSIONS = ("model_repository", "statistics", "model_configuration", "classification", "parameters")


class Repository(Protocol):
    """What models there are, and loads and unloads them by name."""

    async def index(self, *, only_ready: bool) -> list[dict[str, str]]:
        """Name, version, state and reason of each version."""

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Reads the last path of the model again. Returns when it serves. Raises `TFserveError`."""

    async def unload(self, name: str) -> None:
        """Returns when it is gone. Raises `TFserveError`."""


@dataclass(frozen=True)
class Verbs:
    """Answers everything but inference. `is_ready` tells whether the server takes work."""

    models: Models
    is_ready: Callable[[], Awaitable[bool]]
    repository: Repository

    async def server_live(self, _: v2.ServerLiveRequest, __: Call) -> v2.ServerLiveResponse:
        return v2.ServerLiveResponse(live=True)

    async def server_ready(self, _: v2.ServerReadyRequest, __: Call) -> v2.ServerReadyResponse:
        return v2.ServerReadyResponse(ready=await self.is_ready())

    async def model_ready(self, request: v2.ModelReadyRequest, _: Call) -> v2.ModelReadyResponse:
        try:
            model = model_of(self.models, request.name, request.version)
        except (NoSuchModel, NoSuchVersion):
            return v2.ModelReadyResponse(ready=False)
        return v2.ModelReadyResponse(ready=model.is_ready)

    async def server_metadata(self, _: v2.ServerMetadataRequest, __: Call) -> v2.ServerMetadataResponse:
        return v2.ServerMetadataResponse(name="tfserve", version=__version__, extensions=EXTENSIONS)

    async def model_metadata(self, request: v2.ModelMetadataRequest, _: Call) -> v2.ModelMetadataResponse:
        model = model_of(self.models, request.name, request.version)
        return grpc_statistics.metadata(model, self.models.versions(request.name))

    async def model_config(self, request: v2.ModelConfigRequest, _: Call) -> v2.ModelConfigResponse:
        model = model_of(self.models, request.name, request.version)
        return v2.ModelConfigResponse(config=grpc_statistics.configuration(model))

    async def model_statistics(self, request: v2.ModelStatisticsRequest, _: Call) -> v2.ModelStatisticsResponse:
        if request.name:
            chosen = [model_of(self.models, request.name, request.version)]
            if not request.version:
                chosen = self.models.versions(request.name)
        else:
            chosen = list(self.models)
        return v2.ModelStatisticsResponse(model_stats=map(grpc_statistics.statistics, chosen))

    async def repository_index(self, request: v2.RepositoryIndexRequest, _: Call) -> v2.RepositoryIndexResponse:
        _check_repository(request.repository_name)
        index = await self.repository.index(only_ready=request.ready)
        return v2.RepositoryIndexResponse(models=[v2.RepositoryIndexResponse.ModelIndex(**each) for each in index])

    async def load(self, request: v2.RepositoryModelLoadRequest, _: Call) -> v2.RepositoryModelLoadResponse:
        _check_repository(request.repository_name)
        await self.repository.load(request.model_name, request.parameters)
        return v2.RepositoryModelLoadResponse()

    async def unload(self, request: v2.RepositoryModelUnloadRequest, _: Call) -> v2.RepositoryModelUnloadResponse:
        _check_repository(request.repository_name)
        await self.repository.unload(request.model_name)
        return v2.RepositoryModelUnloadResponse()


def service(models: Models, is_ready: Callable[[], Awaitable[bool]], repository: Repository) -> Service:
    verbs, infer = Verbs(models, is_ready, repository), Infer(models)
    return Service(
        NAME,
        {
            "ModelInfer": Unary(v2.ModelInferRequest, v2.ModelInferResponse, infer.one),
            "ModelStreamInfer": Stream(v2.ModelInferRequest, v2.ModelStreamInferResponse, infer.stream),
            "ServerLive": Unary(v2.ServerLiveRequest, v2.ServerLiveResponse, verbs.server_live),
            "ServerReady": Unary(v2.ServerReadyRequest, v2.ServerReadyResponse, verbs.server_ready),
            "ModelReady": Unary(v2.ModelReadyRequest, v2.ModelReadyResponse, verbs.model_ready),
            "ServerMetadata": Unary(v2.ServerMetadataRequest, v2.ServerMetadataResponse, verbs.server_metadata),
            "ModelMetadata": Unary(v2.ModelMetadataRequest, v2.ModelMetadataResponse, verbs.model_metadata),
            "ModelConfig": Unary(v2.ModelConfigRequest, v2.ModelConfigResponse, verbs.model_config),
            "ModelStatistics": Unary(v2.ModelStatisticsRequest, v2.ModelStatisticsResponse, verbs.model_statistics),
            "RepositoryIndex": Unary(v2.RepositoryIndexRequest, v2.RepositoryIndexResponse, verbs.repository_index),
            "RepositoryModelLoad": Unary(v2.RepositoryModelLoadRequest, v2.RepositoryModelLoadResponse, verbs.load),
            "RepositoryModelUnload": Unary(
                v2.RepositoryModelUnloadRequest, v2.RepositoryModelUnloadResponse, verbs.unload
            ),
        },
    )


def _check_repository(name: str) -> None:
    if name:
        raise Unsupported(f"There is one repository, which has no name; {name[:80]!r} was given. Leave it out.")
