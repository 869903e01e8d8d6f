"""The port at which the nodes of a cluster forward requests of their clients. Other machines can't connect to it.

A node has checked the Host header, and says who its client is.
"""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_network
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.web.http.forwarded import Forwarded, TrustedProxies, is_forwarded
from tfserve.web.http.guard import HOST_CHECKED

EVERY_ADDRESS = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class MembersPort(NamedTuple):
    """A listening socket, and the certificates with which members recognise each other."""

    socket: socket.socket
    context: ssl.SSLContext


class FromMember:
    """ASGI middleware that gives requests the client, scheme and host that the node reports."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._forwarded = Forwarded(app, TrustedProxies(EVERY_ADDRESS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._forwarded.apply(scope)
            scope["headers"] = [header for header in scope["headers"] if not is_forwarded(header[0])]
            scope[HOST_CHECKED] = True
        await self._app(scope, receive, send)
