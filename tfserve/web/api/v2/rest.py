"""Version 2 as an ASGI application. Raises errors for `http.request_boundary`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple, NoReturn

from starlette.types import Receive, Scope, Send

from tfserve.access.principals import PREDICT, PRINCIPAL, SUBMIT
from tfserve.errors import NotFound, Unavailable, Unsupported
from tfserve.ipc.messages import IsReady
from tfserve.web.api.deferred import defer
from tfserve.web.api.endpoint import Context
from tfserve.web.api.known_model import KnownModel
from tfserve.web.api.v2 import metadata, repository, statistics
from tfserve.web.api.v2.core import model_of, versions_of
from tfserve.web.api.v2.requests import decode, index_request, repository_request
from tfserve.web.api.v2.responses import json_response, packed
from tfserve.web.api.v2.rest_infer import PROTOCOL, infer
from tfserve.web.api.v2.routing import INFER, MODELS, VERSIONS
from tfserve.web.http.bodies import read_body
from tfserve.web.http.exchange import RequestContext
from tfserve.web.http.prefer import read_deferral
from tfserve.web.http.responses import MethodNotAllowed, RestResponse, send_response
from tfserve.web.missing_extensions import instead_of
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Caller, caller_of

HEALTH = "/v2/health/"
NOT_OFFERED = ("trace", "logging", "systemsharedmemory", "cudasharedmemory", "generate", "generate_stream")

Handler = Callable[[Receive], Awaitable[RestResponse]]


class Route(NamedTuple):
    """The endpoint of a path, and its method."""

    verb: str
    handler: Handler


class V2:
    """All paths under `/v2`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = context.models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        await send_response(scope, send, answer)

    async def _answer(self, scope: Scope, receive: Receive) -> RestResponse:
        path: str = scope["path"]
        if not path.startswith(HEALTH):
            PRINCIPAL.get().require(PREDICT)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if path.endswith(INFER) and path.startswith(MODELS):
            if scope["method"] != "POST":
                return _wrong_verb(path, "POST")
            answer = await self._infer(path[len(MODELS) : -len(INFER)], scope, receive, headers)
            # Never compress others: Triton's asyncio client always accepts gzip, but only decompresses these.
            return await packed(answer, headers.get(b"accept-encoding"))
        route = self._route(path, scope)
        if scope["method"] not in (route.verb, *(("HEAD",) if route.verb == "GET" else ())):
            return _wrong_verb(path, route.verb)
        return await route.handler(receive)

    async def _infer(self, target: str, scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> RestResponse:
        name, slash, version = target.partition(VERSIONS)
        model = self._model(name, version if slash else None)
        if b"prefer" in headers and (deferral := read_deferral(scope["headers"])) is not None:
            return await defer(self._context, scope, receive, model, PROTOCOL, deferral)
        body = await read_body(scope, receive, self._context.settings, model.max_body_bytes)
        with caller_of(scope) as caller:
            return await infer(model, body, headers, caller, pinned=bool(slash))

    def answer(self, scope: Scope, head: RequestContext) -> Callable[[bytes, Caller], Awaitable[RestResponse]]:
        """Responds to inferences with this head, from bodies that have arrived. They are not to be deferred."""
        name, slash, version = scope["path"][len(MODELS) : -len(INFER)].partition(VERSIONS)
        find = partial(self._model, name, version if slash else None)
        known = KnownModel(self._models, self._context.settings, find)
        accepted = head.headers.get(b"accept-encoding")

        async def answer(body: bytes, caller: Caller) -> RestResponse:
            response = await infer(known.take(body), body, head.headers, caller, pinned=bool(slash))
            return await packed(response, accepted)

        return answer

    def _route(self, path: str, scope: Scope) -> Route:
        """Raises `NotFound` for unknown paths, `Unsupported` for extensions that this server does not have."""
        parts = path.removeprefix("/v2").removeprefix("/")
        match parts.split("/"):
            case [""]:
                return _get(metadata.server)
            case ["health", "live"]:
                return _get(lambda: {"live": True, "ready": True})
            case ["health", "ready"]:
                return Route("GET", self._ready)
            case ["models"]:
                return _get(lambda: {"models": self._models.names()})
            case ["models", "stats"]:
                return Route("GET", partial(self._statistics, self._models))
            case ["models", name, *rest]:
                return self._model_route(name, rest, path)
            case ["repository", *rest]:
                return self._repository_route("/".join(rest), scope)
            case [word, *_] if word in NOT_OFFERED:
                raise _not_offered(path, word)
        raise _nothing(path)

    def _model_route(self, name: str, rest: list[str], path: str) -> Route:
        version: str | None = None
        if len(rest) > 1 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        match rest:
            case []:
                return _get(lambda: metadata.model(self._model(name, version), self._models))
            case ["ready"]:
                return Route("GET", partial(self._model_ready, name, version))
            case ["config"]:
                return _get(lambda: metadata.config(self._model(name, version)))
            case ["stats"]:
                return Route("GET", partial(self._statistics, versions_of(self._models, name, version)))
            case [word, *_] if word in NOT_OFFERED:
                raise _not_offered(path, word)
        raise _nothing(path)

    def _repository_route(self, rest: str, scope: Scope) -> Route:
        if rest == "index":
            return Route("POST", partial(self._index, scope))
        name, slash, verb = rest.removeprefix("models/").rpartition("/")
        if rest.startswith("models/") and slash and verb in ("load", "unload"):
            PRINCIPAL.get().require(SUBMIT)
            return Route("POST", partial(self._load if verb == "load" else self._unload, name, scope))
        if "/models/" in rest:
            raise Unsupported("This server has a single repository. Omit its name from the path.")
        raise _nothing(scope["path"])

    # --- inference and model control

    async def _ready(self, _: Receive) -> RestResponse:
        is_ready = await self._context.line.ask(IsReady())
        return json_response({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    async def _model_ready(self, name: str, version: str | None, _: Receive) -> RestResponse:
        model = self._model(name, version)
        if not model.is_ready:
            why = f": {model.info.reason}" if model.info.reason else "."
            raise Unavailable(f"Model {model.name!r} is {model.state}, not ready{why}")
        return json_response({"name": model.name, "ready": True})

    async def _statistics(self, models: Iterable[Model], _: Receive) -> RestResponse:
        return json_response(await statistics.model_stats(models, self._context.line))

    async def _index(self, scope: Scope, receive: Receive) -> RestResponse:
        request = decode(await self._body(scope, receive), index_request)
        return json_response(await repository.index(self._context, only_ready=request.ready))

    async def _load(self, name: str, scope: Scope, receive: Receive) -> RestResponse:
        request = decode(await self._body(scope, receive), repository_request)
        await repository.load(self._context, name, request.parameters)
        return json_response({})

    async def _unload(self, name: str, scope: Scope, receive: Receive) -> RestResponse:
        decode(await self._body(scope, receive), repository_request)
        await repository.unload(self._context, name)
        return json_response({})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        return (await read_body(scope, receive, self._context.settings)).strip() or b"{}"

    # --- models

    def _model(self, name: str, version: str | None) -> Model:
        """Raises `NoSuchModel`, `NoSuchVersion`."""
        return model_of(self._models, name, version)


def _get(content: Callable[[], object]) -> Route:
    async def handler(_: Receive) -> RestResponse:
        return json_response(content())

    return Route("GET", handler)


def _wrong_verb(path: str, verb: str) -> NoReturn:
    raise MethodNotAllowed(f"{path[:200]} takes {verb}.", verb)


def _not_offered(path: str, word: str) -> Unsupported:
    return Unsupported(
        f"{path[:200]} belongs to an extension that this server does not support. {instead_of(word)} GET /v2 lists the"
        " supported extensions."
    )


def _nothing(path: str) -> NotFound:
    return NotFound(f"No endpoint at {path[:200]!r}. See the Open Inference Protocol; GET /v2/models lists the models.")
