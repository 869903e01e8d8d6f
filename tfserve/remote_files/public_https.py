"""An HTTPS client that connects to public addresses of allowed sources only, also after a redirect."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from tfserve.public_addresses import is_public, literal
from tfserve.remote_sources import RemoteSource, SourceNotPublic, allowed_source

CONNECT_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 60.0


class PublicResolver(AbstractResolver):
    """Resolves a name once. The connection goes to the addresses that were checked."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `SourceNotPublic` if one of the addresses is not."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            address = literal(each["host"])
            if address is None or not is_public(address):
                raise SourceNotPublic(host=host)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def client_of(allowed: Sequence[RemoteSource]) -> Any:
    """What fsspec's HTTP file system calls to make its client."""

    async def check(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        allowed_source(str(request.url), allowed)  # each request of a chain of redirects passes here
        return await handler(request)

    async def get_client(**options: Any) -> aiohttp.ClientSession:
        options.pop("loop", None)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        connector = aiohttp.TCPConnector(resolver=PublicResolver())
        return aiohttp.ClientSession(connector=connector, timeout=timeout, middlewares=[check], trust_env=False)

    return get_client
