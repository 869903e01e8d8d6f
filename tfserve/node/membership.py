"""How a machine becomes a node: its folder, its name and address, and the certificate that the head signs."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from pathlib import Path

import msgspec

from tfserve import __version__
from tfserve.cluster.connecting import CannotConnect, connect_as_stranger, parse_address
from tfserve.cluster.heads import Heads
from tfserve.cluster.identity import Identity, JoinToken, new_key, private_pem, public_pem
from tfserve.cluster.membership import Membership
from tfserve.durable_files import write_private
from tfserve.errors import Invalid
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import Join

log = logging.getLogger(__name__)

AGAIN_S = 2.0
UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")


class TokenNeeded(Invalid):
    """This machine has not joined the cluster yet: give the join token of the head with --token. `tfserve cluster \
token` on the head prints it."""


class JoinRecord(msgspec.Struct):
    """What a node remembers of how it joined: its name, and the certificate of the head, as SHA-256 in hex."""

    name: str
    head: str


async def membership_of(
    folder: Path, heads: Heads, *, token: str | None, name: str | None, address: str | None
) -> Membership:
    """Joins unless the machine has joined already, with the same name and the same head. Waits for a head that can't be
    reached. Raises `TokenNeeded`, `WrongHead`, and the error with which the head refuses the node."""
    identity, record = Identity(folder / "identity"), folder / "joined.json"
    known = msgspec.json.decode(record.read_bytes(), type=JoinRecord) if record.is_file() else None
    parsed = JoinToken.parse(token) if token else None
    is_known = known is not None and identity.is_complete and name in (None, known.name)
    if known is None or not is_known or (parsed is not None and parsed.head_pin.hex() != known.head):
        if parsed is None:
            raise TokenNeeded
        known = JoinRecord(name or own_name(), parsed.head_pin.hex())
        await _join(heads, parsed, known.name, identity)
        write_private(record, msgspec.json.encode(known))
    return Membership(identity, known.name, address or address_towards(heads.addresses[0]))


async def _join(heads: Heads, token: JoinToken, name: str, identity: Identity) -> None:
    problem = ""
    while True:
        try:
            await heads.first(lambda head: join(head, token, name, identity), discard=lambda _: None)
            return
        except CannotConnect as error:
            if error.message != problem:
                log.warning("%s The node tries again.", error.message)
            problem = error.message
        await asyncio.sleep(AGAIN_S)


async def join(address: str, token: JoinToken, name: str, identity: Identity) -> None:
    """Writes the certificate of the node `name` into the folder of `identity`.

    Raises `CannotConnect`, `WrongHead`, and the error with which the head refuses it: a wrong token, another version.
    """
    key = new_key()
    connection = await connect_as_stranger(address, token)
    try:
        joined = await connection.ask(
            Join(secret=token.secret, name=name, version=__version__, public_key=public_pem(key))
        )
    except ConnectionLost:
        raise CannotConnect(address=address, cause="it closed the connection.") from None
    finally:
        connection.close()
    identity.write(ca=joined.ca, certificate=joined.certificate, key=private_pem(key))


def own_name() -> str:
    """The name of this machine, without its domain."""
    return UNUSUAL.sub("-", socket.gethostname().partition(".")[0]).strip("-._") or "node"


def address_towards(head: str) -> str:
    """The address of this machine at which the head's network reaches it. Raises `Invalid`."""
    host, port = parse_address(head)
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as sock:
            sock.connect(where)  # sends nothing: the kernel only looks up the route
            return str(sock.getsockname()[0])
    except OSError as error:
        raise Invalid(f"the head at {head} can't be reached: {error.strerror or error}; check the address") from None
