"""TCP connections between machines: small messages without a delay, and a peer that vanished is noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from tfserve.cluster.membership import Membership

P = TypeVar("P", bound=asyncio.BaseProtocol)

IDLE_S = 5
"""Seconds without data after which the kernel asks whether the peer is there."""
PROBE_S = 2
PROBES = 3
LOST_MS = 10_000
"""Milliseconds for which sent data may stay unacknowledged. After that the connection is lost."""
BACKLOG = 128
OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_MS),
)


def watched(sock: socket.socket) -> socket.socket:
    """Sets the options. The connections that a listening socket accepts inherit them."""
    for option in OPTIONS:
        sock.setsockopt(*option)
    return sock


def listen(host: str, port: int = 0) -> socket.socket:
    """A listening socket at an address of this machine; port 0 picks a free one. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        watched(sock).listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


async def connect(host: str, port: int, membership: Membership, protocol: Callable[[], P]) -> P:
    """A connection to another member of the cluster. Raises `OSError`, which a refused certificate is as well."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = watched(socket.socket(family, socket.SOCK_STREAM))
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, (host, port))
        _, connected = await loop.create_connection(
            protocol, sock=sock, ssl=membership.client_context(), server_hostname=""
        )
    except BaseException:
        sock.close()
        raise
    return connected
