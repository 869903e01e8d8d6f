"""The base classes of all messages, and the responses that fit many requests."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar, get_args

import msgspec

from tfserve.errors import Failure, Internal

AUTO = "auto"

#: In an Interrupt, instead of a job's number: stops the reading of variables.
READING = -1


R = TypeVar("R")


class Message(msgspec.Struct, kw_only=True, tag=True, tag_field="is", omit_defaults=True):
    """A message is tagged with the name of its class."""


class Request(Message, Generic[R]):
    """A message with a response of type `R`: another message, or any small value, which travels in `Done`.

    A request is one class, with its fields and its response, and one handler in the process that receives it.
    """


class JobKind(StrEnum):
    SCRIPT = "script"
    CLEAR = "clear"
    DEPLOY = "deploy"
    UPDATE = "update"
    UNDEPLOY = "undeploy"
    PREDICT = "predict"
    TRAIN = "train"
    DEFERRED = "deferred"
    BATCH = "batch"

    @property
    def no_result(self) -> bytes:
        """The result of a job that did not succeed, as JSON."""
        return b"null" if self in (JobKind.PREDICT, *MODEL_KINDS) else b"false"


#: jobs that compute a model outside the queue of its workspace
MODEL_KINDS = (JobKind.DEFERRED, JobKind.BATCH)


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


#: the states of a job that has not ended, and of one that has
ACTIVE = (JobState.QUEUED, JobState.RUNNING)
FINISHED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST)


class Done(Message):
    """The request was carried out; `value` is the response, if it is not a message of its own."""

    value: Any = None


class Failed(Message):
    """The request failed, and why."""

    failure: Failure


def to_response(request: Request[R], message: Message) -> R:
    """What a message says in response to a request. Raises `Internal` when it is of another type."""
    value = message.value if isinstance(message, Done) else message
    try:
        response: R = msgspec.convert(value, _response_type(type(request)))
    except msgspec.ValidationError as error:
        raise Internal(f"unexpected response to {type(request).__name__}: {error}") from error
    return response


@cache
def _response_type(request: type) -> Any:
    return get_args(request.__orig_bases__[0])[0]  # type: ignore[attr-defined]
