"""The results of version 2, for the OpenAPI document. The field names are those of the Open Inference Protocol."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType


class Health(msgspec.Struct):
    live: bool
    ready: bool


class ServerMetadata(msgspec.Struct):
    name: str
    version: str
    extensions: list[str]


class ModelNames(msgspec.Struct):
    models: list[str]


class TensorMetadata(msgspec.Struct):
    """A size of -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelInfo(msgspec.Struct):
    """The inputs and outputs of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: Annotated[
        dict[str, Any] | UnsetType, Meta(description="remarks for users of the model, and quantization")
    ] = UNSET


class ModelReady(msgspec.Struct):
    name: str
    ready: bool


class ModelStatistics(msgspec.Struct):
    """Since the version was loaded. Durations are in ns, `last_inference` in ms since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, Any]
    response_stats: dict[str, Any]
    batch_stats: list[dict[str, Any]]
    memory_usage: list[Any]


class Statistics(msgspec.Struct):
    model_stats: list[ModelStatistics]


class OutputTensor(msgspec.Struct):
    """One output. Its values are in `data`, or in `binary_data_size` bytes after the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | UnsetType = UNSET
    data: list[Any] | UnsetType = UNSET


class InferResponse(msgspec.Struct):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | UnsetType = UNSET


class RepositoryModel(msgspec.Struct):
    name: str
    state: Annotated[str, Meta(description="LOADING, READY, UNLOADING or UNAVAILABLE")]
    reason: str
    version: str | UnsetType = UNSET


class Nothing(msgspec.Struct):
    """An empty object."""
