"""What a gRPC API is made of, whatever carries it: services, their methods, and the call that a method answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from google.protobuf.message import Message

from tfserve.access.principals import Scope
from tfserve.errors import Kind


class Status(IntEnum):
    """gRPC's statuses that this server answers with, by their numbers on the wire."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


STATUS = {
    Kind.INVALID: Status.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Kind.FORBIDDEN: Status.PERMISSION_DENIED,
    Kind.NOT_FOUND: Status.NOT_FOUND,
    Kind.CONFLICT: Status.FAILED_PRECONDITION,
    Kind.TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    Kind.UNSUPPORTED: Status.UNIMPLEMENTED,
    Kind.OVERLOADED: Status.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: Status.UNAVAILABLE,
    Kind.TIMED_OUT: Status.DEADLINE_EXCEEDED,
    Kind.OUT_OF_SPACE: Status.RESOURCE_EXHAUSTED,
    Kind.INTERNAL: Status.INTERNAL,
}


class Call(Protocol):
    """What a method may know about the call besides its message."""

    @property
    def timeout_s(self) -> float | None:
        """What is left of the client's deadline; None when it has set none."""

    @property
    def is_heavy(self) -> bool:
        """Whether a message of it is made of so much that its tensors are to be read in a thread."""

    @property
    def urgency(self) -> int:
        """What the client's metadata say, as HTTP's header Priority does; the usual one if they say nothing."""

    @property
    def credentials(self) -> Mapping[str, str]:
        """The token in the client's metadata, as HTTP headers."""


@dataclass(frozen=True)
class Unary:
    """One message in, one out. `answer` raises `TFserveError`; it is cancelled when the client gives up."""

    request: type[Message]
    response: type[Message]
    answer: Callable[[Any, Call], Awaitable[Message]]
    scope: Scope | None = Scope.PREDICT
    """What the caller's token must allow; None: nothing, for health checks."""
    is_eager: bool = False
    """It runs without a task (`EagerCall`), which is faster. It must need no current task."""


@dataclass(frozen=True)
class StreamMethod:
    """Messages in, one or many, and messages out until `answer` is exhausted."""

    request: type[Message]
    response: type[Message]
    answer: Callable[[AsyncIterator[Any], Call], AsyncGenerator[Message, None]]
    scope: Scope | None = Scope.PREDICT
    is_eager: bool = False


@dataclass(frozen=True)
class Service:
    """A service by its full name, with its methods by theirs."""

    name: str
    methods: Mapping[str, Unary | StreamMethod] = field(default_factory=dict)
