"""Calls of gRPC that concern the head: the node passes them on over HTTP, and returns the response or the error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf.message import Message

from tfserve.access.principals import ADDRESS
from tfserve.errors import Failure, Internal, from_failure
from tfserve.node.forwarding import Forwarder
from tfserve.web.api.grpc_over_http import PATH
from tfserve.web.rpc import Call, Service, Unary

OF_HEAD = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "HandleReloadConfigRequest")
"""The methods that only the head answers."""


class _Refused(msgspec.Struct):
    """The body of an error, as the workspace API writes it."""

    error: Failure


def passing_on(service: Service, forwarder: Forwarder) -> Service:
    """The service with the head's methods answered by the head."""
    methods: Mapping[str, Any] = {
        name: replace(method, answer=_Forwarded(f"{PATH}{service.name}/{name}", method, forwarder))
        if name in OF_HEAD and isinstance(method, Unary)
        else method
        for name, method in service.methods.items()
    }
    return replace(service, methods=methods)


class _Forwarded:
    """The response of a method, from the head. Raises `HeadUnreachable`, `HeadLost`, and the errors of the head."""

    def __init__(self, path: str, method: Unary, forwarder: Forwarder) -> None:
        self._path = path
        self._response = method.response
        self._forwarder = forwarder

    async def __call__(self, request: Message, call: Call) -> Message:
        headers = {**call.credentials, "content-type": "application/x-protobuf"}
        if address := ADDRESS.get():
            headers["x-forwarded-for"] = f"[{address}]" if ":" in address else address
        status, content = await self._forwarder.ask(self._path, request.SerializeToString(), headers)
        if status == 200:
            return self._response.FromString(content)
        try:
            failure = msgspec.json.decode(content, type=_Refused).error
        except msgspec.DecodeError:
            raise Internal(f"The head of the cluster answered with status {status}.") from None
        raise from_failure(failure)
