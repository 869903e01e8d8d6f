"""Opens connections to the cluster port of the head."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl

from tfserve.cluster.identity import Identity, JoinToken
from tfserve.cluster.sockets import watched
from tfserve.errors import Invalid, Unavailable
from tfserve.ipc.connections import Connection, Handler

HANDSHAKE_S = 5.0
MAX_PORT = 65535


class CannotConnect(Unavailable):
    """The head at {address} can't be reached: {cause}"""


class WrongHead(Invalid):
    """The server at {address} is not the head that made this token. Check the address, and print the token again with \
`tfserve cluster token` on the head."""


def parse_address(address: str) -> tuple[str, int]:
    """`10.0.0.1:7700`, `[fd00::1]:7700` → host and port. Raises `Invalid`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        raise Invalid(f"expected the address of the head's cluster port, such as 10.0.0.1:7700, got {address!r}")
    return host.strip("[]"), int(port)


async def connect(address: str, identity: Identity, handler: Handler | None = None) -> Connection:
    """A connection as a member of the cluster. Raises `CannotConnect`."""
    return await _open(address, identity.client_context(), handler)


async def connect_as_stranger(address: str, token: JoinToken) -> Connection:
    """A connection to join over. Raises `CannotConnect`, and `WrongHead` before anything secret was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the token says which certificate it must be
    connection = await _open(address, context, None)
    certificate = connection.about_peer("ssl_object").getpeercert(binary_form=True)
    if hashlib.sha256(certificate or b"").digest() != token.head_pin:
        connection.abort()
        raise WrongHead(address=address)
    return connection


async def _open(address: str, context: ssl.SSLContext, handler: Handler | None) -> Connection:
    host, port = parse_address(address)
    loop = asyncio.get_running_loop()
    sock = watched(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    sock.setblocking(False)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await loop.sock_connect(sock, (host, port))
            _, connection = await loop.create_connection(
                lambda: Connection(handler), sock=sock, ssl=context, server_hostname=""
            )
    except TimeoutError:
        sock.close()
        raise CannotConnect(address=address, cause=f"it did not respond within {HANDSHAKE_S:g} s.") from None
    except OSError as error:  # with those of TLS
        sock.close()
        raise CannotConnect(address=address, cause=f"{error.strerror or error}.") from None
    return connection
