"""Deferred predictions, batches and callbacks: the requests of web, and those to the batch process."""

from __future__ import annotations

from tfserve.ipc.messages.base import JobState, Message, Request
from tfserve.ipc.messages.job_requests import EncodedRequest, Outcome
from tfserve.ipc.messages.jobs import JobStatus


class SubmitModelJob(Request[JobStatus]):
    """Queues a deferred prediction or a batch, and waits up to `wait_s` for its end.

    `folder` is its folder's name in the data folder, where web has written the body of `size` bytes, if it has one.
    `content_digest` is that of the body.
    """

    model: str
    request: EncodedRequest
    folder: str
    size: int = 0
    content_digest: str = ""
    wait_s: float = 0.0
    idempotency_key: str | None = None
    owner: str = ""
    callback: str | None = None


class CancelModelJob(Request[JobState | None]):
    """Responds with its state when the job has ended; None if it is neither waiting nor running."""

    job_id: int


class GetCallbackSecret(Request[str]):
    """The secret that signs the callbacks of an owner."""

    owner: str


class ModelJobEnded(Message):
    """How a deferred prediction or a batch ended."""

    outcome: Outcome


class RunModelJob(Request[ModelJobEnded]):
    """Sent to the batch process. `folder` is a path."""

    job_id: int
    request: EncodedRequest
    folder: str


class StopModelJob(Message):
    """The job is to end. `RunModelJob` is responded to when it has."""

    job_id: int


class BatchProgress(Message):
    """What a batch has written to its disk. `total` is None until all rows are counted."""

    job_id: int
    done: int
    errors: int
    output_bytes: int
    total: int | None = None
    rows_per_s: float = 0.0
