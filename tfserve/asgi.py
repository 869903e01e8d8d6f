"""The web process: the APIs and the pages behind one door, on the socket and the line that the supervisor gave it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import django
import uvloop
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfserve import linux
from tfserve.config import Settings, load
from tfserve.errors import Internal, Invalid, NotFound, TFserveError, Unavailable, nearest
from tfserve.http import multipart
from tfserve.http.access_log import AccessLog
from tfserve.http.answers import error_counts, refusal, refuse
from tfserve.http.bodies import ClientGone, read_body
from tfserve.http.entrance import Entrance
from tfserve.http.guard import Guard
from tfserve.http.request_ids import TellRequest
from tfserve.http.server import make_server
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import DrainModel, ModelChanged, ReadStatistics, Statistics
from tfserve.ipc.messages import Message as IpcMessage
from tfserve.ipc.metrics import WebCounts
from tfserve.serving.models import Models
from tfserve.serving.supervisor import SupervisorLine

FORM = "application/x-www-form-urlencoded"
GC_THRESHOLDS = (20_000, 20, 20)
"""Requests leave next to nothing for the collector, so it looks seldom."""
SWITCH_INTERVAL_S = 0.001
"""After so long a thread that reads a large body lets the event loop continue; Python's default is 5 ms."""
UNPACKED = (b"content-encoding", b"content-length")


def main() -> None:
    """Started by the supervisor: `--line` and `--listen` are file descriptors that it handed down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--line", type=int, required=True)
    parser.add_argument("--listen", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    linux.die_with_parent(os.getppid())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s web: %(message)s%(request)s")
    logging.getLogger().handlers[0].addFilter(TellRequest())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    django.setup()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=arguments.line), [socket.socket(fileno=fd) for fd in arguments.listen]))


async def _serve(line_socket: socket.socket, listening: list[socket.socket]) -> None:
    settings = load()
    models = Models(
        timeout_s=settings.predict_timeout_s, limit=settings.max_predictions, wake=lambda name: line.wake_model(name)
    )
    access_log = AccessLog(settings.access_log) if settings.access_log else None
    connection = await Connection.open(line_socket, partial(_told, models))
    connection.lost.add_done_callback(lambda _: os._exit(0))  # without the supervisor there is nothing to serve
    line = SupervisorLine(connection)
    await models.begin(await line.models())
    server = make_server(Entrance(make_app(line, models, settings), access_log), settings)
    # uvicorn raises the signal that has stopped it once more, when it has stopped: there is something left to do then.
    signal.signal(signal.SIGTERM, _nothing)
    async with _grpc(line, models, settings, access_log):
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await server.serve(sockets=listening)
    if access_log is not None:
        access_log.close()
    connection.lost = asyncio.get_running_loop().create_future()


def _nothing(*_: object) -> None:
    pass


@asynccontextmanager
async def _grpc(
    line: SupervisorLine, models: Models, settings: Settings, access_log: AccessLog | None
) -> AsyncIterator[None]:
    """The gRPC port, if there shall be one: nothing of it is loaded else."""
    if not settings.grpc_port:
        yield
        return
    from tfserve.protocols.grpc_services import all_services
    from tfserve.protocols.tfserve.handlers import Context
    from tfserve.serving.grpc_server import serving

    context = Context(line=line, models=models, settings=settings, start_folder=Path.cwd())
    async with serving(all_services(context), settings, access_log):
        yield


async def _told(models: Models, message: IpcMessage) -> IpcMessage | None:
    """What the supervisor says without being asked."""
    match message:
        case ModelChanged():
            await models.change(message.workspace, message.versions)
        case DrainModel():
            await models.drained(message.workspace, message.id, message.addresses)
        case ReadStatistics():
            return Statistics(counts=WebCounts(models.counts(), error_counts))
        case _:
            raise Internal(f"the supervisor said {type(message).__name__} to web")
    return None


def make_app(line: SupervisorLine, models: Models, settings: Settings) -> ASGIApp:
    """All routes, with the door in front."""
    from django.core.asgi import get_asgi_application

    from tfserve.protocols import prometheus
    from tfserve.protocols.oip.app import V2
    from tfserve.protocols.tfmodel import routes as tfmodel
    from tfserve.protocols.tfserve.handlers import Context
    from tfserve.protocols.tfserve.routes import Guide, routes
    from tfserve.protocols.tfserving.app import V1

    context = Context(line=line, models=models, settings=settings, start_folder=Path.cwd())
    pages = Pages(cast(ASGIApp, get_asgi_application()), line)
    scrape = prometheus.Scrape(line)
    own = [*routes(context), *tfmodel.routes(context), *(Route(path, scrape) for path in prometheus.PATHS)]
    router = Router(
        [
            Route("/", Root(settings, guide=Guide(context), training=tfmodel.at_root(context), pages=pages)),
            *own,
            Route("/pages/{rest:path}", pages),
            Mount("/static", Static()),
        ],
        redirect_slashes=False,
        default=Unknown([route.path for route in own if isinstance(route, Route)]),
        lifespan=_lifespan(line),
    )
    v1, v2 = V1(models, settings), V2(context)
    return Guard(Prefixes({"/v1/": v1, "/V1/": v1, "/v2": v2, "/v2/": v2}, router), settings)


class Prefixes:
    """Sends a request to the application that its path's first four characters belong to; every other to `rest`.

    The prediction protocols stand in front of the router, which would cost as much as the rest of a prediction.
    """

    def __init__(self, apps: dict[str, ASGIApp], rest: ASGIApp) -> None:
        self._apps = apps
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps.get(scope.get("path", "")[:4], self._rest)(scope, receive, send)


class Pages:
    """Django, with the line to the supervisor in its scope: views find it as `request.scope["line"]`.

    A program (no `text/html` in its Accept header) gets errors in JSON, as everywhere else.
    """

    def __init__(self, django_app: ASGIApp, line: SupervisorLine) -> None:
        self._django = django_app
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "line": self._line}
        headers = Request(scope).headers
        is_browser = "text/html" in headers.get("accept", "") or "hx-request" in headers
        await self._django(scope, receive, send if is_browser else self._in_json(scope, send))

    def _in_json(self, scope: Scope, send: Send) -> Send:
        status = 200

        async def send_in_json(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if status < 400:
                await send(message)
            elif message["type"] == "http.response.start":
                await _page_error(scope, status)(scope, _again(b""), send)

        return send_in_json


def _page_error(scope: Scope, status: int) -> Response:
    path = scope["path"][:200]
    if status == 404:
        return refusal(NotFound(f"There is no page {path!r}. GET /jobs/ lists jobs as JSON; POST / describes the API."))
    if status == 405:
        return refusal(Invalid(f"{path!r} is a page: it takes GET and HEAD."), status=405)
    if status == 503:
        return refusal(Unavailable("The page can't be shown now. Try again later."))
    return refusal(Internal() if status >= 500 else Invalid("The request is not one for a page."), status=status)


class Static:
    """The files that the pages need, and JSON when there is no such file."""

    def __init__(self) -> None:
        self._files = StaticFiles(packages=[("tfserve.dashboard", "static"), ("django_htmx", "static")])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._files(scope, receive, send)
        except HTTPException as error:
            missing = NotFound(f"There is no file {scope['path'][:200]!r}.")
            await refusal(missing, status=error.status_code)(scope, receive, send)


class Root:
    """`/` is shared: a form or `?taskId=` is training, another POST the API guide, another GET the status page."""

    def __init__(self, settings: Settings, *, guide: ASGIApp, training: ASGIApp, pages: ASGIApp) -> None:
        self._settings = settings
        self._guide = guide
        self._training = training
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await self._post(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            answer = refusal(Invalid("/ takes GET (the status page) and POST (the API guide)."), status=405)
            await answer(scope, receive, send)
        elif "taskId" in Request(scope).query_params:
            await self._training(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """curl sends JSON as a form too, if it is not told otherwise: so the body decides, not its type."""
        try:
            body = await read_body(scope, receive, self._settings)
        except ClientGone:
            return
        except TFserveError as error:
            await refusal(error)(scope, receive, send)
            return
        is_json = body.lstrip()[:1] in (b"{", b"[", b'"', b"")
        media = Request(scope).headers.get("content-type", "").strip().lower()
        is_form = media.startswith((FORM, multipart.MEDIA))
        if not (is_json or is_form or "json" in media):
            await refusal(_neither_json_nor_form(media))(scope, receive, send)
            return
        app = self._training if is_form and not is_json else self._guide
        headers = [(name, value) for name, value in scope["headers"] if name not in UNPACKED]
        await app({**scope, "headers": headers}, _again(body), send)


def _neither_json_nor_form(media: str) -> Invalid:
    return Invalid(
        f"POST / takes a form of the type {FORM} or {multipart.MEDIA}, which starts a training, or JSON or nothing,"
        " which is answered with"
        f" the API guide; the type {media[:100]!r} was given."
    )


def _again(body: bytes) -> Receive:
    """A body that was read already, for whoever reads it next."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class Unknown:
    """404 for every other path, in JSON, with the path that was probably meant."""

    def __init__(self, known: list[str]) -> None:
        self._known = known

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        path = scope["path"][:200]
        text = f"There is nothing at {path!r}{nearest(path, self._known)}. POST / tells what there is."
        await refuse(scope, send, NotFound(text))


def _lifespan(line: SupervisorLine) -> Callable[[Router], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[None]:
        line.tell_ready()
        yield

    return lifespan


if __name__ == "__main__":
    main()
