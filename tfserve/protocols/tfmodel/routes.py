"""The training API as routes; its errors are `{"error": sentence}`."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from tfserve.control.training import NoSuchTask
from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.http.answers import error_headers, json_response, status_of
from tfserve.http.bodies import ClientGone
from tfserve.protocols.tfmodel import handlers
from tfserve.protocols.tfmodel.endpoints import ENDPOINTS, Handler
from tfserve.protocols.tfserve.handlers import Context

log = logging.getLogger(__name__)


def routes(context: Context) -> list[BaseRoute]:
    """All but `/`, which several APIs share (see `asgi`)."""
    verbs: dict[str, dict[str, Handler]] = {}
    for endpoint in ENDPOINTS:
        verbs.setdefault(endpoint.path.replace("{path}", "{path:path}"), {})[endpoint.verb] = endpoint.handler
    return [Route(path, TrainingCall(context, by_verb)) for path, by_verb in verbs.items()]


def at_root(context: Context) -> TrainingCall:
    """`POST /` with a form, and `GET /?taskId=`."""
    return TrainingCall(context, {"GET": handlers.query, "POST": handlers.start_by_form})


class TrainingCall:
    """One path, and what each verb does there."""

    def __init__(self, context: Context, verbs: dict[str, Handler]) -> None:
        self._context = context
        self._verbs = verbs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            handler = self._verbs.get("GET" if scope["method"] == "HEAD" else scope["method"])
            response = (
                _wrong_verb(self._verbs) if handler is None else await handler(self._context, Request(scope, receive))
            )
        except ClientGone:
            return
        except TFserveError as error:
            response = refused(error, scope)
        except Exception:
            log.exception("while answering %s %s", scope["method"], scope["path"])
            response = refused(Internal(), scope)
        await response(scope, receive, send)


def refused(error: TFserveError, scope: Scope) -> Response:
    content: dict[str, Any] = {"error": error.message} | error.detail
    if isinstance(error, NoSuchTask):
        asked = Request(scope)
        content = {"taskId": asked.path_params.get("id") or asked.query_params.get("taskId", ""), **content}
    body = msgspec.json.encode(content, enc_hook=str)
    return json_response(body, status=status_of(error), headers=error_headers(error))


def _wrong_verb(verbs: dict[str, Handler]) -> Response:
    allowed = ", ".join(verbs)
    content = {"error": Invalid(f"This path takes {allowed}.").message}
    return json_response(msgspec.json.encode(content), status=405, headers={"Allow": allowed})
