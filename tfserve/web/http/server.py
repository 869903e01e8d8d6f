"""The uvicorn server: its settings, the headers of all responses, and TLS."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tfserve.certificates import files_of
from tfserve.config import Settings
from tfserve.web.http.exchange import FastApp
from tfserve.web.http.members import FromMember, MembersPort
from tfserve.web.http.protocol import HttpProtocol, protocol_class
from tfserve.web.http.tls import reloading_context

GRACEFUL_S = 3
TICKS_PER_S = 10
HSTS_S = 365 * 24 * 3600


def make_server(
    app: ASGIApp,
    settings: Settings,
    fast: FastApp | None = None,
    members: MembersPort | None = None,
    grace_s: Callable[[], float] = lambda: GRACEFUL_S,
) -> uvicorn.Server:
    """`fast` responds to the requests that it accepts, and `app` to all others. Raises `CertificateUnusable`.

    When it stops, requests have `grace_s` seconds to end.
    """
    config = _config(app, settings, fast)
    if (files := files_of(settings)) is not None:
        config.ssl = reloading_context(files)
    return HttpServer(
        config, grace_s, members, _config(FromMember(app), settings, None) if members is not None else None
    )


def _config(app: ASGIApp, settings: Settings, fast: FastApp | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=protocol_class(settings.header_timeout_s, fast),
        loop="none",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        headers=_security_headers(settings),
        timeout_keep_alive=int(settings.keep_alive_s),
    )
    config.load()
    return config


class HttpServer(uvicorn.Server):
    """Closes connections that have been idle for too long. Listens on the port for members of the cluster, too."""

    def __init__(
        self,
        config: uvicorn.Config,
        grace_s: Callable[[], float],
        members: MembersPort | None,
        members_config: uvicorn.Config | None,
    ) -> None:
        super().__init__(config)
        self._grace_s = grace_s
        self._members = members
        self._members_config = members_config

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._members is None or self._members_config is None:
            return
        make: Any = self._members_config.http_protocol_class
        self.servers.append(
            await asyncio.get_running_loop().create_server(
                partial(
                    make, config=self._members_config, server_state=self.server_state, app_state=self.lifespan.state
                ),
                sock=self._members.socket,
                ssl=self._members.context,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.timeout_graceful_shutdown = ceil(self._grace_s())
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls it ten times a second."""
        if counter % TICKS_PER_S == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.close_if_idle(now)
        return await super().on_tick(counter)


def _security_headers(settings: Settings) -> list[tuple[str, str]]:
    """Headers of every response. Browsers remember HSTS for a host, so a trial certificate must not send it."""
    headers = [("x-content-type-options", "nosniff")]
    if settings.tls_cert and not settings.tls_self_signed:
        headers.append(("strict-transport-security", f"max-age={HSTS_S}"))
    return headers
