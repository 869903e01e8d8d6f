"""The kinds of error, and the errors that more than one package raises.

An error that only one package raises is defined there, as a subclass of one of these.

    TFserveError                 kind
    ├─ Invalid                   invalid           the request can't be understood or is out of range
    │  └─ PathRefused                              a path leaves the allowed roots
    ├─ Unauthenticated           unauthenticated   who is asking?
    ├─ Forbidden                 forbidden         known, but not allowed
    ├─ NotFound                  not_found
    │  ├─ NoSuchWorkspace
    │  ├─ NoSuchJob
    │  └─ JobNoLongerKept
    ├─ Conflict                  conflict          right in itself, but not in this state
    │  ├─ WorkspaceExists
    │  ├─ ServiceOff
    │  └─ IdempotencyKeyReused
    ├─ TooLarge                  too_large
    ├─ Unsupported               unsupported       known, but not done here
    ├─ Overloaded                overloaded        a limit of ours is reached: use fewer
    │  └─ TooManyWorkspaces
    ├─ Unavailable               unavailable       not now: full, starting, stopping, given up; try again later
    │  ├─ DatabaseUnavailable
    │  ├─ QueueFull
    │  ├─ Stopping
    │  └─ WorkspaceGivenUp
    ├─ TimedOut                  timed_out
    ├─ OutOfSpace                out_of_space      the disk is full or can't be written
    └─ Internal                  internal          our fault

The docstring of a class is its message, with fields to fill in. A kind knows no HTTP number: each transport
maps kinds to its own codes in one table. Between processes an error travels as a `Failure`: data, never a pickle.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What went wrong, in the one vocabulary that every transport translates from."""

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
    """An error as data: what a job stores, what crosses a process border, what stands in an answer's `error`.

    `code` is a `Kind`, or one of the words that only jobs use: `script_error`, `lost`, `cancelled`.
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
        return Failure(code=self.kind, message=self.message, detail=self.detail or None)


class Invalid(TFserveError):
    """The request can't be understood."""

    kind = Kind.INVALID


class PathRefused(Invalid):
    """The path {path!r} leads outside the folders this server may read: {roots}. Move the file below one of them, or \
start the server with TFSERVE_ROOTS naming the folder."""


class Unauthenticated(TFserveError):
    """This needs a token."""

    kind = Kind.UNAUTHENTICATED


class Forbidden(TFserveError):
    """This is not allowed."""

    kind = Kind.FORBIDDEN


class NotFound(TFserveError):
    """There is no such thing."""

    kind = Kind.NOT_FOUND


class NoSuchWorkspace(NotFound):
    """There is no workspace {name!r}{hint}. POST /create_workspace/ makes one, POST /get_workspace/ lists them."""

    def __init__(self, name: str, known: Iterable[str] = ()) -> None:
        super().__init__(name=name, hint=nearest(name, known))


class NoSuchJob(NotFound):
    """Workspace {name!r} has no job {job}: its jobs are numbered from 0 and {count} have been submitted."""


class JobNoLongerKept(NotFound):
    """Job {job} of workspace {name!r} is no longer kept: only the newest finished jobs are, for a limited time."""


class Conflict(TFserveError):
    """This can't be done in the present state."""

    kind = Kind.CONFLICT


class WorkspaceExists(Conflict):
    """There is already a workspace {name!r}. Choose another name, or POST /destroy_workspace/ first."""


class ServiceOff(Conflict):
    """The workspace service is turned off. POST /create/ turns it on."""


class IdempotencyKeyReused(Conflict):
    """The Idempotency-Key {key!r} was used before in workspace {name!r} for another request (job {job}). Use a new \
key for a new request."""


class TooLarge(TFserveError):
    """This is larger than this server takes."""

    kind = Kind.TOO_LARGE


class Unsupported(TFserveError):
    """This server does not do that."""

    kind = Kind.UNSUPPORTED


class Overloaded(TFserveError):
    """A limit of this server is reached. Try again later."""

    kind = Kind.OVERLOADED


class TooManyWorkspaces(Overloaded):
    """There are already {limit} workspaces, as many as this server allows (max_workspaces). Destroy one first."""


class Unavailable(TFserveError):
    """This can't be done right now. Try again later."""

    kind = Kind.UNAVAILABLE


class DatabaseUnavailable(Unavailable):
    """The database can't be used right now ({cause}), so nothing was accepted. Try again later."""


class QueueFull(Unavailable):
    """{waiting} jobs are waiting in workspace {name!r}, as many as this server takes ({setting}). Wait until some \
have finished."""


class Stopping(Unavailable):
    """The server is stopping and takes no new work. What was accepted goes on when it is started again."""


class WorkspaceGivenUp(Unavailable):
    """Workspace {name!r} was given up: {reason} POST /restart_workspace/ gives it a fresh start."""


class TimedOut(TFserveError):
    """This took longer than allowed."""

    kind = Kind.TIMED_OUT


class OutOfSpace(TFserveError):
    """The disk is full or can't be written to ({cause}), so nothing was accepted. Reading still works."""

    kind = Kind.OUT_OF_SPACE


class Internal(TFserveError):
    """The server failed. The log of the server has the details."""

    kind = Kind.INTERNAL


BY_KIND: dict[str, type[TFserveError]] = {cls.kind: cls for cls in TFserveError.__subclasses__()}


def from_failure(failure: Failure) -> TFserveError:
    """The error of the failure's kind, to be raised on this side of a process border."""
    return BY_KIND.get(failure.code, Internal)(failure.message, **(failure.detail or {}))


def nearest(name: str, known: Iterable[str]) -> str:
    """The words " (did you mean 'x'?)" for the known name most like `name`, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {str(match[0])!r}?)" if match else ""


def _docstring(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or cls.__name__).split())
