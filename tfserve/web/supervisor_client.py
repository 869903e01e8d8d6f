"""The web process's connection to the supervisor."""

from __future__ import annotations

from typing import TypeVar

from tfserve.access.principals import PRINCIPAL
from tfserve.errors import NotFound, Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import Request, WebReady

R = TypeVar("R")


class SupervisorClient:
    """Sends requests to the supervisor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def notify_ready(self) -> None:
        self._connection.notify(WebReady())

    async def ask(self, request: Request[R]) -> R:
        """Returns the supervisor's response. Raises the error that it responds with."""
        try:
            return await self._connection.ask(request)
        except NotFound as error:
            # The supervisor suggests similar names, but knows nothing about who asks.
            if PRINCIPAL.get().workspaces is not None and error.detail.get("hint"):
                raise NotFound(error.message.replace(error.detail["hint"], ""), name=error.detail.get("name")) from None
            raise
        except ConnectionLost:
            raise Unavailable("The server is stopping.") from None
