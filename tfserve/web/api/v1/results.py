"""The results of version 1, for the OpenAPI document. `core.py` and its neighbours write them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType


class ModelEntry(msgspec.Struct):
    name: str
    version: str
    state: str
    format: str
    runtime: str
    signatures: list[str]


class ModelEntries(msgspec.Struct):
    """Every version of every model."""

    models: list[ModelEntry]


class VersionHealth(msgspec.Struct):
    error_code: str
    error_message: str


class VersionStatus(msgspec.Struct):
    version: str
    state: Annotated[str, Meta(description="LOADING, AVAILABLE, UNLOADING, END or UNKNOWN")]
    status: VersionHealth


class ModelStatus(msgspec.Struct):
    model_version_status: list[VersionStatus]


class ModelSpec(msgspec.Struct):
    name: str
    signature_name: str
    version: str


class ModelMetadata(msgspec.Struct):
    model_spec: ModelSpec
    metadata: Annotated[dict[str, Any], Meta(description="the signatures, in signature_def.signature_def")]
    remarks: Annotated[list[str] | UnsetType, Meta(description="notes for users of the model")] = UNSET


class RequestExample(msgspec.Struct):
    """A request that the model accepts, as JSON (null if it is large) and as code."""

    method: str
    url: str
    signature_name: str
    json: dict[str, Any] | None
    curl: str
    python: str
    javascript: str
    curl_image: str | UnsetType = UNSET


class PredictResponse(msgspec.Struct):
    """`predictions` for a request in rows and for image files, `outputs` for a request in columns."""

    predictions: list[Any] | UnsetType = UNSET
    outputs: Any = UNSET


class ExamplesResponse(msgspec.Struct):
    results: Annotated[list[Any], Meta(description="a number, or the pairs of label and score, for each example")]
