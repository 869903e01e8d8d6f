"""The service of v2 over gRPC: its verbs, each a translation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tfserve import __version__
from tfserve.errors import Invalid, Unsupported
from tfserve.protocols.oip import grpc_statistics
from tfserve.protocols.oip.grpc_infer import Infer, model_of
from tfserve.protocols.protos import oip_pb2 as v2
from tfserve.serving.models import Model, Models, NoSuchModel, NoSuchVersion
from tfserve.serving.rpc import Call, Service, Stream, Unary

NAME = "inference.GRPCInferenceService"
EXTENSIONS = ("model_repository", "statistics", "model_configuration", "classification", "parameters")
#: States of a version in Triton's words.
STATES = {"active": "READY", "loading": "LOADING", "draining": "UNLOADING", "failed": "UNAVAILABLE"}

_OUTSIDE = re.compile(r"[/\\\0]|^\s*\.{0,2}\s*$")


class Repository(Protocol):
    """Loads and unloads models by name."""

    async def load(self, name: str) -> None:
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
        ready = await self.is_ready() and all(model.is_ready for model in self._leading())
        return v2.ServerReadyResponse(ready=ready)

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
        index = [_index(model) for model in self.models if model.is_ready or not request.ready]
        return v2.RepositoryIndexResponse(models=index)

    async def load(self, request: v2.RepositoryModelLoadRequest, _: Call) -> v2.RepositoryModelLoadResponse:
        _check_repository(request.repository_name)
        _check_name(request.model_name)
        for name in request.parameters:
            raise Invalid(f"A model is loaded as it was deployed: the parameter {name[:80]!r} is not taken.")
        await self.repository.load(request.model_name)
        return v2.RepositoryModelLoadResponse()

    async def unload(self, request: v2.RepositoryModelUnloadRequest, _: Call) -> v2.RepositoryModelUnloadResponse:
        _check_repository(request.repository_name)
        _check_name(request.model_name)
        await self.repository.unload(request.model_name)
        return v2.RepositoryModelUnloadResponse()

    def _leading(self) -> list[Model]:
        """The version of each model that takes requests."""
        return [self.models.get(name) for name in self.models.names()]


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


def _index(model: Model) -> v2.RepositoryIndexResponse.ModelIndex:
    return v2.RepositoryIndexResponse.ModelIndex(
        name=model.name, version=str(model.version), state=STATES[model.state], reason=model.told.reason
    )


def _check_repository(name: str) -> None:
    if name:
        raise Unsupported(f"There is one repository, which has no name; {name[:80]!r} was given. Leave it out.")


def _check_name(name: str) -> None:
    if _OUTSIDE.search(name):
        raise Invalid(f"A model's name is the name of a workspace; {name[:80]!r} can't be one.")
