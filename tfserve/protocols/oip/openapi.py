"""The paths of version 2, for the API guide and the OpenAPI document."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tfserve.http.answers import STATUS
from tfserve.protocols.oip.requests import IndexRequest, InferRequest, RepositoryRequest

REQUESTS = (InferRequest, IndexRequest, RepositoryRequest)
BINARY = "application/octet-stream"
TELLS = 'as the Open Inference Protocol says; a refusal is {"error": sentence}'


class Path(NamedTuple):
    """One verb at one path."""

    verb: str
    path: str
    name: str
    purpose: str
    request: type[msgspec.Struct] | None = None


_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"

PATHS = (
    Path("get", "/v2/health/live", "v2_live", "tell whether the server is alive"),
    Path("get", "/v2/health/ready", "v2_ready", "tell whether the server takes work: 503 while it starts or stops"),
    Path("get", "/v2", "v2_server", "tell name, version and extensions of the server"),
    Path("get", "/v2/models", "v2_models", "list the deployed models"),
    Path("get", "/v2/models/stats", "v2_all_statistics", "count what all models have computed"),
    *(
        each
        for prefix, word in ((_MODEL, "model"), (_VERSION, "version"))
        for each in (
            Path("get", prefix, f"v2_{word}", "tell the inputs and outputs of a model"),
            Path("get", f"{prefix}/ready", f"v2_{word}_ready", "tell whether a model is ready"),
            Path("get", f"{prefix}/config", f"v2_{word}_config", "tell how a model is served, in Triton's words"),
            Path("get", f"{prefix}/stats", f"v2_{word}_statistics", "count what a model has computed"),
            Path("post", f"{prefix}/infer", f"v2_{word}_infer", "compute with a model", InferRequest),
        )
    ),
    Path("post", "/v2/repository/index", "v2_index", "list what is loaded and what can be", IndexRequest),
    Path(
        "post",
        "/v2/repository/models/{model}/load",
        "v2_load",
        "deploy what was deployed last again",
        RepositoryRequest,
    ),
    Path("post", "/v2/repository/models/{model}/unload", "v2_unload", "undeploy a model", RepositoryRequest),
)


def paths(ref_template: str) -> dict[str, Any]:
    """Operations by path and verb. The schemas of `REQUESTS` must be among the document's components."""
    found: dict[str, Any] = {}
    for each in PATHS:
        found.setdefault(each.path, {})[each.verb] = _operation(each, ref_template)
    return found


def _operation(each: Path, ref_template: str) -> dict[str, Any]:
    media = ("application/json", BINARY) if each.request is InferRequest else ("application/json",)
    refusal = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    refused = {"description": "refused", "content": {"application/json": {"schema": refusal}}}
    operation: dict[str, Any] = {
        "summary": each.purpose,
        "operationId": each.name,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in ("model", "version")
            if f"{{{name}}}" in each.path
        ],
        "responses": {
            "200": {"description": each.purpose, "content": {kind: {"schema": {}} for kind in media}},
            **{str(status): refused for status in sorted({405, *STATUS.values()})},
        },
    }
    if each.request is not None:
        schema = {"$ref": ref_template.format(name=each.request.__name__)}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation
