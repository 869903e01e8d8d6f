"""Version 2 as an ASGI application: which path and verb means what, and every error in the protocol's words."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from tfserve.errors import Internal, Invalid, NotFound, TFserveError, Unavailable, Unsupported
from tfserve.http.answers import send_bytes
from tfserve.http.bodies import ClientGone, read_body
from tfserve.http.server import CONNECTION, HttpConnection
from tfserve.protocols.oip import metadata, repository, statistics
from tfserve.protocols.oip.answers import Answer, json_answer, packed, refusal
from tfserve.protocols.oip.infer import infer
from tfserve.protocols.oip.requests import decode, index_request, repository_request
from tfserve.protocols.oip.wishes import in_one_spelling, model_of
from tfserve.protocols.tfserve.handlers import Context
from tfserve.serving.models import Model
from tfserve.serving.prediction import Caller, CallerGone

log = logging.getLogger(__name__)

MODELS = "/v2/models/"
INFER = "/infer"
NOT_OFFERED = ("trace", "logging", "systemsharedmemory", "cudasharedmemory", "generate", "generate_stream")

Handler = Callable[[Receive], Awaitable[Answer]]


class Call(NamedTuple):
    """What a path means, and its verb."""

    verb: str
    handler: Handler


class V2:
    """All paths below `/v2`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = context.models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except (ClientGone, CallerGone):
            return
        except TFserveError as error:
            answer = refusal(error)
        except Exception:
            log.exception("while answering %s %s", scope["method"], scope["path"])
            answer = refusal(Internal())
        await send_bytes(scope, send, answer.body, status=answer.status, headers=answer.headers)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path.endswith(INFER) and path.startswith(MODELS):
            if scope["method"] != "POST":
                return _wrong_verb(path, "POST")
            answer = await self._infer(path[len(MODELS) : -len(INFER)], scope, receive, headers)
            # Nothing else is packed: Triton's asyncio client asks for it always, and unpacks only this.
            return await packed(answer, headers.get(b"accept-encoding"))
        call = self._call(path, scope)
        if scope["method"] not in (call.verb, *(("HEAD",) if call.verb == "GET" else ())):
            return _wrong_verb(path, call.verb)
        return await call.handler(receive)

    async def _infer(self, target: str, scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> Answer:
        name, slash, version = target.partition("/versions/")
        model = self._model(name, version if slash else None)
        body = await read_body(scope, receive, self._context.settings, model.max_body_bytes)
        caller = Caller()
        connection: HttpConnection | None = scope.get(CONNECTION)
        if connection is None:
            return await infer(model, body, headers, caller, pinned=bool(slash))
        connection.on_lost = caller.gone
        try:
            return await infer(model, body, headers, caller, pinned=bool(slash))
        finally:
            connection.on_lost = None

    def _call(self, path: str, scope: Scope) -> Call:
        """Raises `NotFound` for what is nothing, `Unsupported` for what is known but not offered."""
        parts = path.removeprefix("/v2").removeprefix("/")
        match parts.split("/"):
            case [""]:
                return _get(metadata.server)
            case ["health", "live"]:
                return _get(lambda: {"live": True, "ready": True})
            case ["health", "ready"]:
                return Call("GET", self._ready)
            case ["models"]:
                return _get(lambda: {"models": self._models.names()})
            case ["models", "stats"]:
                return Call("GET", partial(self._statistics, self._models))
            case ["models", name, *rest]:
                return self._model_call(name, rest, path)
            case ["repository", *rest]:
                return self._repository_call("/".join(rest), scope)
            case [word, *_] if word in NOT_OFFERED:
                raise _not_offered(path)
        raise _nothing(path)

    def _model_call(self, name: str, rest: list[str], path: str) -> Call:
        version: str | None = None
        if len(rest) > 1 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        match rest:
            case []:
                return _get(
                    lambda: metadata.model(self._model(name, version), self._models.versions(in_one_spelling(name)))
                )
            case ["ready"]:
                return Call("GET", partial(self._model_ready, name, version))
            case ["config"]:
                return _get(lambda: metadata.config(self._model(name, version)))
            case ["stats"]:
                return Call("GET", partial(self._statistics, self._chosen(name, version)))
            case [word, *_] if word in NOT_OFFERED:
                raise _not_offered(path)
        raise _nothing(path)

    def _repository_call(self, rest: str, scope: Scope) -> Call:
        if rest == "index":
            return Call("POST", partial(self._index, scope))
        name, slash, verb = rest.removeprefix("models/").rpartition("/")
        if rest.startswith("models/") and slash and verb in ("load", "unload"):
            return Call("POST", partial(self._load if verb == "load" else self._unload, name, scope))
        if "/models/" in rest:
            raise Unsupported("There is one repository here, the workspaces: leave its name out of the path.")
        raise _nothing(scope["path"])

    # --- what is more than a look

    async def _ready(self, _: Receive) -> Answer:
        is_ready = await self._context.line.is_ready()
        return json_answer({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    async def _model_ready(self, name: str, version: str | None, _: Receive) -> Answer:
        model = self._model(name, version)
        if not model.is_ready:
            why = f": {model.told.reason}" if model.told.reason else "."
            raise Unavailable(f"Model {model.name!r} is {model.state}, not ready{why}")
        return json_answer({"name": model.name, "ready": True})

    async def _statistics(self, models: Iterable[Model], _: Receive) -> Answer:
        return json_answer(await statistics.model_stats(models, self._context.line))

    async def _index(self, scope: Scope, receive: Receive) -> Answer:
        wanted = decode(await self._body(scope, receive), index_request)
        return json_answer(await repository.index(self._models, only_ready=wanted.ready))

    async def _load(self, name: str, scope: Scope, receive: Receive) -> Answer:
        wanted = decode(await self._body(scope, receive), repository_request)
        await repository.load(self._context, name, wanted.parameters)
        return json_answer({})

    async def _unload(self, name: str, scope: Scope, receive: Receive) -> Answer:
        decode(await self._body(scope, receive), repository_request)
        await repository.unload(self._context, name)
        return json_answer({})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        return (await read_body(scope, receive, self._context.settings)).strip() or b"{}"

    # --- models

    def _model(self, name: str, version: str | None) -> Model:
        """Raises `NoSuchModel`, `NoSuchVersion`."""
        return model_of(self._models, name, version)

    def _chosen(self, name: str, version: str | None) -> list[Model]:
        return self._models.versions(in_one_spelling(name)) if version is None else [self._model(name, version)]


def _get(look: Callable[[], object]) -> Call:
    async def handler(_: Receive) -> Answer:
        return json_answer(look())

    return Call("GET", handler)


def _wrong_verb(path: str, verb: str) -> Answer:
    return refusal(Invalid(f"{path[:200]} takes {verb}."), status=405, headers=((b"allow", verb.encode()),))


def _not_offered(path: str) -> Unsupported:
    return Unsupported(
        f"{path[:200]} belongs to an extension that this server does not have; GET /v2 lists those it has."
    )


def _nothing(path: str) -> NotFound:
    return NotFound(f"There is nothing at {path[:200]!r}: see GET /v2/models, and the Open Inference Protocol.")
