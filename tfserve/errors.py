"""The kinds of error, and the errors about workspaces, jobs and the server as a whole.

Errors of one part, such as reading a request body, are defined in that part, as subclasses of these.

    TFserveError                 kind
    ├─ Invalid                   invalid           the request can't be understood or is out of range
    │  └─ PathRefused                              a path leaves the allowed roots
    ├─ Unauthenticated           unauthenticated   a token is missing or wrong
    ├─ Forbidden                 forbidden         authenticated, but not allowed
    ├─ NotFound                  not_found
    │  ├─ NoSuchWorkspace
    │  ├─ NoSuchJob
    │  └─ JobNoLongerKept
    ├─ Conflict                  conflict          valid, but not in the current state
    │  ├─ WorkspaceExists
    │  ├─ ServiceOff
    │  └─ IdempotencyKeyReused
    ├─ TooLarge                  too_large
    ├─ Unsupported               unsupported       valid, but not supported by this server
    ├─ Overloaded                overloaded        a limit of this server is reached
    │  └─ TooManyWorkspaces
    ├─ Unavailable               unavailable       not now: full, starting, stopping, given up; try again later
    │  ├─ DatabaseUnavailable
    │  ├─ QueueFull
    │  ├─ Stopping
    │  └─ WorkspaceGivenUp
    ├─ TimedOut                  timed_out
    ├─ OutOfSpace                out_of_space      the disk is full or can't be written
    │  └─ OutOfMemory                              a model does not fit into memory
    └─ Internal                  internal          server error

The docstring of a class is its message template. Kinds are independent of HTTP: each transport maps them to its own
codes in one table. Between processes an error is sent as a `Failure`: plain data, never a pickle.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What went wrong. Each transport maps these kinds to its own codes."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed_out"
    OUT_OF_SPACE = "out_of_space"
    INTERNAL = "internal"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as data: stored with a job, sent between processes, and returned in the `error` of a response.

    `code` is a `Kind`, or one of the codes that only jobs use: `script_error`, `lost`, `cancelled`.
    """

    code: str
    message: str
    type: str | None = None
    traceback: str | None = None
    detail: dict[str, Any] | None = None


class TFserveError(Exception):
    """Something went wrong."""

    kind = Kind.INTERNAL

    def __init__(self, message: str | None = None, **detail: Any) -> None:
        self.detail = detail
        self.message = message if message is not None else _docstring(type(self)).format(**detail)
        super().__init__(self.message)

    def to_failure(self) -> Failure:
        """The error as data. Characters without a UTF-8 form (from file names) are replaced."""
        message = self.message.encode("utf-8", "replace").decode()
        return Failure(code=self.kind, message=message, detail=self.detail or None)


class Invalid(TFserveError):
    """The request can't be understood."""

    kind = Kind.INVALID


class PathRefused(Invalid):
    """The path {path!r} is outside the readable folders of this server: {roots}. Move the file into one of them, or \
add its folder to TFSERVE_ROOTS and restart the server."""


class Unauthenticated(TFserveError):
    """A token is required."""

    kind = Kind.UNAUTHENTICATED


class Forbidden(TFserveError):
    """This is not allowed."""

    kind = Kind.FORBIDDEN


class NotFound(TFserveError):
    """Not found."""

    kind = Kind.NOT_FOUND


class NoSuchWorkspace(NotFound):
    """There is no workspace {name!r}{hint}. POST /create_workspace/ creates one, POST /get_workspace/ lists them."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name=name, hint=nearest(name, known))


class NoSuchJob(NotFound):
    """Workspace {name!r} has no job {job}: its jobs are numbered from 0 and {count} have been submitted."""


class JobNoLongerKept(NotFound):
    """Job {job} of workspace {name!r} is no longer kept: only the most recent finished jobs are, for a limited time."""


class Conflict(TFserveError):
    """This is not possible in the current state."""

    kind = Kind.CONFLICT


class WorkspaceExists(Conflict):
    """Workspace {name!r} already exists. Choose another name, or POST /destroy_workspace/ first."""


class ServiceOff(Conflict):
    """The workspace service is turned off. POST /create/ turns it on."""


class IdempotencyKeyReused(Conflict):
    """The Idempotency-Key {key!r} was already used in workspace {name!r} for a different request (job {job}). Use a \
new key for a new request."""


class TooLarge(TFserveError):
    """This is larger than the server accepts."""

    kind = Kind.TOO_LARGE


class Unsupported(TFserveError):
    """This server does not support that."""

    kind = Kind.UNSUPPORTED


class Overloaded(TFserveError):
    """A limit of this server is reached. Try again later."""

    kind = Kind.OVERLOADED


class TooManyWorkspaces(Overloaded):
    """There are already {limit} workspaces, the maximum on this server (max_workspaces). Destroy one first."""


class Unavailable(TFserveError):
    """This is temporarily unavailable. Try again later."""

    kind = Kind.UNAVAILABLE


class DatabaseUnavailable(Unavailable):
    """The database is unavailable ({cause}), so nothing was accepted. Try again later."""


class QueueFull(Unavailable):
    """The queue of workspace {name!r} is full: {waiting} jobs are waiting ({setting}). Wait until some have \
finished."""


class Stopping(Unavailable):
    """The server is shutting down and accepts no new work. Accepted work resumes after a restart."""


class WorkspaceGivenUp(Unavailable):
    """Workspace {name!r} has failed permanently: {reason} POST /restart_workspace/ restarts it."""


class TimedOut(TFserveError):
    """This took longer than allowed."""

    kind = Kind.TIMED_OUT


class OutOfSpace(TFserveError):
    """The disk is full or not writable ({cause}), so nothing was accepted. Reading still works."""

    kind = Kind.OUT_OF_SPACE


class OutOfMemory(OutOfSpace):
    """{model} does not fit into memory: {problem}"""


class Internal(TFserveError):
    """Internal server error. See the server's log for details."""

    kind = Kind.INTERNAL


BY_KIND: dict[str, type[TFserveError]] = {cls.kind: cls for cls in TFserveError.__subclasses__()}


def from_failure(failure: Failure) -> TFserveError:
    """The exception for a failure that another process sent."""
    return BY_KIND.get(failure.code, Internal)(failure.message, **(failure.detail or {}))


def nearest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" with the known name most similar to `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {str(match[0])!r}?)" if match else ""


def _docstring(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or cls.__name__).split())
