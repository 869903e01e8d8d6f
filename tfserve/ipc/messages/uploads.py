"""Uploads: the requests of web."""

from __future__ import annotations

from tfserve.ipc.messages.base import Request


class DeleteUpload(Request[None]):
    """Remove an upload, unless it is in use."""

    id: str
