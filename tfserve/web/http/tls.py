"""TLS of the HTTP ports: certificates that are replaced while connections are open, and time limits."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvloop

from tfserve.certificates import CertificateFiles, Reloading, server_context

SHUTDOWN_S = 3.0
"""Time limit for the client's side of closing a TLS connection."""


def reloading_context(files: CertificateFiles, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """A context whose handshakes use the current content of the files. Open connections keep theirs.

    `protocols` are offered by ALPN. OpenSSL calls the SNI callback in every handshake, also without a server name.
    Raises `CertificateUnusable`.
    """
    certificate = Reloading(files, partial(server_context, protocols=protocols))
    first = certificate.current

    def use_current(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        certificate.reload()
        if certificate.current is not first:
            connection.context = certificate.current

    first.sni_callback = use_current
    return first


class Loop(uvloop.Loop):
    """Sets the time limits of TLS connections, which uvicorn leaves at a minute."""

    handshake_timeout_s = 15.0

    async def create_server(  # type: ignore[override]  # all overloads
        self, *arguments: Any, **options: Any
    ) -> asyncio.AbstractServer:
        if options.get("ssl") is not None:
            options |= {"ssl_handshake_timeout": self.handshake_timeout_s, "ssl_shutdown_timeout": SHUTDOWN_S}
        return await super().create_server(*arguments, **options)


def new_loop(handshake_timeout_s: float) -> Loop:
    loop = Loop()
    loop.handshake_timeout_s = handshake_timeout_s
    return loop
