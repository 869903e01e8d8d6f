"""Callbacks as rows: how they are written and read."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from tfserve.db.job_json import job_detail
from tfserve.db.models import Callback, Job, ServerState
from tfserve.ipc.messages import FINISHED

MAX_RESULT = 1024 * 1024
"""Larger results are not in the body of a callback. The receiver can fetch them."""


expected: set[int] = set()
"""The ids of jobs with a callback. The writer of the database keeps them, so that no end of a job needs a query."""


@dataclass(frozen=True)
class Delivery:
    """A callback that is due: what to send, where to, and which secret signs it."""

    url: str
    owner: str
    attempts: int
    body: bytes


def create(job_id: int, url: str, owner: str) -> None:
    Callback.objects.create(job_id=job_id, url=url, owner=owner)
    expected.add(job_id)


def copy(from_job_id: int, to_job_id: int) -> None:
    """Gives the next run of a task the callback of the run before."""
    for before in Callback.objects.filter(job_id=from_job_id):
        create(to_job_id, before.url, before.owner)


def waiting() -> dict[int, bool]:
    """The ids of the jobs whose callbacks are not delivered yet, and whether each job has ended."""
    rows = Callback.objects.filter(state=Callback.State.WAITING).values_list("job_id", "job__state")
    return {job_id: state in FINISHED for job_id, state in rows.order_by("job_id")}


def delivery(job_id: int) -> Delivery | None:
    """What is to be sent; None if the job is not kept, or it was delivered."""
    job = Job.objects.select_related("workspace", "outcome", "callback", "model_job").filter(pk=job_id).first()
    row: Callback | None = getattr(job, "callback", None)
    if job is None or row is None or row.state != Callback.State.WAITING:
        return None
    return Delivery(row.url, row.owner, row.attempts, msgspec.json.encode(_content(job)))


def note_attempt(job_id: int, state: str, status: int | None, error: str) -> None:
    """Records an attempt, unless the job was deleted in the meantime."""
    row = Callback.objects.filter(pk=job_id).first()
    if row is None:
        return
    row.state, row.attempts, row.last_status, row.last_error = state, row.attempts + 1, status, error
    row.save()


def secret(owner: str) -> str:
    """The secret of an owner, derived from the key of the server, which is made at the first use."""
    key = ServerState.objects.values_list("callback_key", flat=True).first()
    if not key:
        key = secrets.token_hex(32)
        ServerState.objects.update(callback_key=key)
    return hmac.new(bytes.fromhex(key), owner.encode(), hashlib.sha256).hexdigest()


def _content(job: Job) -> dict[str, Any]:
    content = job_detail(job)
    del content["request"], content["callback"]  # the receiver knows the first, and the second is about to change
    outcome = getattr(job, "outcome", None)
    if outcome is not None and len(outcome.result or "") > MAX_RESULT:
        content |= {"result": None, "result_omitted": True}
    return content
