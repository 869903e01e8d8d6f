"""Admits machines that have the join token."""

from __future__ import annotations

import logging
import re
import secrets

from tfserve import __version__
from tfserve.cluster.identity import HEAD, SECRET_BYTES, Authority
from tfserve.errors import Conflict, Invalid, Unauthenticated
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import Join, NodeJoined

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class WrongToken(Unauthenticated):
    """The join token is wrong. `tfserve cluster token` on the head prints the right one."""


class WrongVersion(Conflict):
    """The head runs TFserve {head}, and the node {name} runs {node}. Install the same version on both."""


class Joining:
    """The opener for `Join`."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def open(self, _: Connection, __: str, request: Join) -> tuple[NodeJoined, None]:
        if not secrets.compare_digest(request.secret, self._authority.secret[:SECRET_BYTES]):
            raise WrongToken
        require_version(request.name, request.version)
        if request.name == HEAD or not _NAME.fullmatch(request.name):
            raise Invalid(f"a node's name has letters, digits, dots, dashes and underscores, got {request.name!r}")
        try:
            certificate = self._authority.sign(request.name, request.public_key)
        except ValueError as error:
            raise Invalid(f"the public key can't be used: {error}") from None
        log.info("node %s has joined", request.name)
        return NodeJoined(certificate=certificate, ca=self._authority.ca.read_bytes()), None


def require_version(name: str, version: str) -> None:
    """Raises `WrongVersion`."""
    if version != __version__:
        raise WrongVersion(head=__version__, name=name, node=version)
