"""The row type of the endpoint tables, from which routes, API guide and OpenAPI document are generated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tfserve.access.principals import PRINCIPAL, Scope
from tfserve.config import Settings
from tfserve.errors import PathRefused
from tfserve.paths import resolve
from tfserve.remote_sources import is_remote
from tfserve.uploads.store import PREFIX, Uploads
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.api.json_requests import RequestReader, read_any
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.supervisor_client import SupervisorClient

JSON, TEXT, EVENTS, BYTES = "application/json", "text/plain", "text/event-stream", "application/octet-stream"
ANY_FILE = "*/*"
"""The media type of a response that is a file of any type."""

Schema = dict[str, Any]
"""A JSON schema."""
BINARY: Schema = {"type": "string", "format": "binary"}
"""The schema of a body that is a file."""
FILE_FORM: Schema = {"type": "object", "properties": {"file": BINARY}}
"""The schema of a form with a file."""
WORKSPACES = "workspaces"
"""The folder of the workspaces in the data folder."""
REF = "#/components/schemas/{name}"
"""Where a type's schema is in the OpenAPI document."""
RequestType = type[msgspec.Struct] | type[msgspec.Raw]


class Tag(StrEnum):
    """The groups of endpoints in the OpenAPI document, in the order in which they are shown."""

    SERVER = "server"
    WORKSPACES = "workspaces"
    JOBS = "jobs"
    MODELS = "models"
    V1 = "v1"
    V2 = "v2"
    TRAINING = "training"
    UPLOADS = "uploads"
    FILES = "files"
    BATCHES = "batches"
    ACCESS = "access"


class Format(Enum):
    """How an API writes its results and errors."""

    ENVELOPE = auto()
    """{"request_result": true, "result": …} and {"request_result": false, "result": message, "error": {…}}."""
    PLAIN = auto()
    """The bare result and {"error": message}."""
    EITHER = auto()
    """The bare result, and errors in the format of the API that the request turns out to be for."""


@dataclass(frozen=True)
class Context:
    """What a handler needs: the server's services and values from the request headers."""

    line: SupervisorClient
    models: LiveModels
    settings: Settings
    start_folder: Path
    audit: AuditLog
    idempotency_key: str | None = None

    @property
    def uploads(self) -> Uploads:
        return Uploads(self.settings.uploads_path, total_bytes=self.settings.all_uploads_bytes)

    @property
    def owner(self) -> str:
        """Uploads belong to the sender of the request, and quotas apply to each sender."""
        return PRINCIPAL.get().owner

    @property
    def sees_owner(self) -> str | None:
        """The owner whose uploads the sender may use; None: all."""
        principal = PRINCIPAL.get()
        return None if principal.is_admin else principal.owner

    async def path(self, path: str) -> Path:
        """The path that a caller means: in a readable folder, in an upload (`upload:<id>`), or on another server.

        Raises `PathRefused`, `Invalid`, and for an upload `NoSuchUpload`, `UploadIncomplete`, `NotFound`. For what an
        address of another server raises, see `uploads.remote.fetched`: its files are fetched first.
        """
        if is_remote(path):
            from tfserve.web.api.uploads.remote import fetched

            upload = await fetched(path, self.uploads, self.owner, self.settings)
            return await asyncio.to_thread(upload.path, "")
        if path.startswith(PREFIX):
            return await asyncio.to_thread(self.uploads.resolve, path, self.sees_owner)
        found = resolve(path, start=self.start_folder, roots=self.settings.root_paths)
        if not PRINCIPAL.get().is_admin and not await self.may_use(found):
            raise PathRefused(path=path, roots=", ".join(map(str, self.settings.root_paths)))
        return found

    async def may_use(self, path: Path) -> bool:
        """Whether a path in the data folder is in an upload or a workspace of the sender. All others may be used."""
        from tfserve.db import reads  # the models can be imported once Django is set up
        from tfserve.web.database_reads import read

        try:
            area, name, *_ = path.relative_to(self.settings.data_path).parts or ("", "")
        except ValueError:  # outside the data folder, or the folder of all workspaces or uploads
            return not path.is_relative_to(self.settings.data_path)
        if area == self.settings.uploads_path.name:
            await asyncio.to_thread(self.uploads.find, name, self.sees_owner)
            return True
        return area == WORKSPACES and name.isdigit() and await read(reads.is_visible_workspace, int(name))


Handler = Callable[[Context, Any], Awaitable[Any]]
"""Gets the request that `Endpoint.read` makes of the body, or else the Starlette request.

Returns a value that becomes JSON, or a Starlette response.
"""
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Endpoint:
    """One method of one path. The paths of predictions have no handler, because no router dispatches them."""

    method: str
    path: str
    name: str
    """The id of the operation: a verb and a noun, unique on the server. The audit log names it, too."""
    summary: str
    """What it does, as an imperative without a full stop."""
    returns: str
    """The result in words."""
    format: Format = Format.PLAIN
    scope: Scope | None = None
    """What the caller's token must allow; None: any token."""
    tag: Tag = Tag.SERVER
    request: RequestType | None = None
    """The type of the JSON body."""
    example: Any = None
    """A JSON body to try it with."""
    needs_body: bool = False
    """Whether the body is required. An empty body counts as {} otherwise."""
    accepts: Mapping[str, Any] = field(default_factory=dict)
    """Other media types of the body, each with a request type or a JSON schema."""
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    """JSON schemas of the parameters in path and query."""
    headers: Mapping[str, Schema] = field(default_factory=dict)
    """JSON schemas of request headers."""
    result: Any = Any
    """The type of the JSON result, or its JSON schema."""
    media: tuple[str, ...] = (JSON,)
    """The media types of the response."""
    statuses: Mapping[str, Any] = field(default_factory=dict)
    """The types of responses with another status than 200 that are not errors."""
    submits_job: bool = False
    handler: Handler | None = None
    read: Callable[[bytes, list[str]], Any] | None = None
    """Reads the body and adds warnings about it to the list."""

    @property
    def is_audited(self) -> bool:
        """Whether it may change something, apart from computing predictions."""
        return self.method not in ("GET", "HEAD") and self.scope not in (None, Scope.PREDICT)

    def is_in_path(self, parameter: str) -> bool:
        return f"{{{parameter}}}" in self.path


class EndpointTable(list[Endpoint]):
    """The endpoints of one API. The decorators `get`, `post` and `add` add handlers."""

    def __init__(self, format: Format, scope: Scope | None, tag: Tag = Tag.SERVER) -> None:  # noqa: A002
        """`scope` and `tag` are those of every row that names no other."""
        super().__init__()
        self._format = format
        self._scope = scope
        self._tag = tag

    def get(self, path: str, result: Any = Any, **fields: Any) -> Callable[[H], H]:
        """The handler gets the Starlette request. `fields` are further ones of `Endpoint`."""
        return self.add("GET", path, result=result, **fields)

    def post(
        self,
        path: str,
        request: RequestType | None = None,
        result: Any = Any,
        *,
        reads_body: bool = False,
        **fields: Any,
    ) -> Callable[[H], H]:
        """The handler gets the decoded body, or the Starlette request if there is no type or it `reads_body` itself."""
        read = None if request is None or reads_body else _reader(request)
        return self.add("POST", path, request=request, result=result, read=read, **fields)

    def add(self, method: str, path: str, **fields: Any) -> Callable[[H], H]:
        """For any method. The name of the endpoint is that of its handler, which reads the body itself."""

        def add(handler: H) -> H:
            own = {"name": handler.__name__, "format": self._format, "scope": self._scope, "tag": self._tag}
            self.append(Endpoint(method, path, handler=handler, **{**own, **fields}))
            return handler

        return add


def _reader(request: RequestType) -> Callable[[bytes, list[str]], Any]:
    return RequestReader(request).read if issubclass(request, msgspec.Struct) else read_any
