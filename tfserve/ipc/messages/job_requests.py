"""What a job is asked to do, one class for each kind, and how a job ended.

A request travels and is stored as JSON text: web writes it, and only what runs the job reads it.
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import msgspec

from tfserve.errors import Failure
from tfserve.ipc.messages.base import JobKind, JobState
from tfserve.ipc.messages.models import ModelOptions
from tfserve.ipc.messages.placement import Autoscale, NeededResources


class _JobRequest(msgspec.Struct, kw_only=True):
    kind: ClassVar[JobKind]

    def encode(self) -> EncodedRequest:
        return EncodedRequest(self.kind, msgspec.json.encode(self))


class ScriptJob(_JobRequest, omit_defaults=True):
    """Runs a `file` or a `text`. `clear` forgets all variables first. The workspace has to have the `resources`."""

    kind = JobKind.SCRIPT
    clear: bool
    file: str | None = None
    text: str | None = None
    resources: NeededResources = {}


class ClearJob(_JobRequest):
    """Forgets all variables."""

    kind = JobKind.CLEAR


class DeployJob(_JobRequest):
    """Loads a model and serves it in place of the one before."""

    kind = JobKind.DEPLOY
    path: str
    device: str = "/cpu:0"
    options: ModelOptions = ModelOptions()
    #: set if the server deploys it by itself, because it is declared
    declared: bool | msgspec.UnsetType = msgspec.UNSET


class UpdateJob(_JobRequest):
    """Deploys another version with the options of the current one, except those that are given.

    `autoscale` is False to turn it off.
    """

    kind = JobKind.UPDATE
    path: str
    warm_up: bool | dict[str, Any] | None = None
    # Unset fields are not stored, as a repeated idempotency key is compared with what earlier releases stored.
    idle_after_s: float | msgspec.UnsetType = msgspec.UNSET
    replicas: int | msgspec.UnsetType = msgspec.UNSET
    placement: str | msgspec.UnsetType = msgspec.UNSET
    resources: NeededResources | msgspec.UnsetType = msgspec.UNSET
    autoscale: Autoscale | bool | msgspec.UnsetType = msgspec.UNSET


class UndeployJob(_JobRequest):
    """Takes the model away."""

    kind = JobKind.UNDEPLOY


class PredictJob(_JobRequest):
    """Computes the outputs `fetches`. The model worker reads the values, when it knows their types."""

    kind = JobKind.PREDICT
    fetches: list[str]
    feed_dict: dict[str, msgspec.Raw] = {}
    signature: str = "serving_default"


class TrainJob(_JobRequest):
    """Trains a task; the rest is in the row of the task."""

    kind = JobKind.TRAIN


class DeferredJob(_JobRequest, omit_defaults=True):
    """Computes a prediction of v1 or v2 as its direct request would. The body is in the folder of the job."""

    kind = JobKind.DEFERRED
    protocol: str
    #: of the URL, without the query
    path: str
    query: str = ""
    #: those that matter for the prediction, with lower-case names
    headers: dict[str, str] = {}


class BatchJob(_JobRequest, omit_defaults=True):
    """Runs a model over a file or a folder. `input` is a resolved path."""

    kind = JobKind.BATCH
    model: str
    input: str
    format: str
    output: str = "jsonl"
    version: int | None = None
    signature: str | None = None
    #: rows that are computed together in one request
    batch_size: int = 1
    #: the batch fails after more rows with an error than this; None: it never does
    max_errors: int | None = None
    #: of a CSV file: the input columns in order, or by the inputs of the model
    columns: list[str] | dict[str, str | list[str]] | None = None
    #: the id of the batch whose rows are done already
    resumes: int | None = None


JobRequest = ScriptJob | ClearJob | DeployJob | UpdateJob | UndeployJob | PredictJob | TrainJob | DeferredJob | BatchJob

_DECODERS: dict[JobKind, msgspec.json.Decoder[JobRequest]] = {
    request.kind: msgspec.json.Decoder(request) for request in get_args(JobRequest)
}


class EncodedRequest(msgspec.Struct, frozen=True):
    """A job's request as it travels and is stored."""

    kind: JobKind
    json: bytes

    def decode(self) -> JobRequest:
        """Also reads what earlier releases have stored."""
        return _DECODERS[self.kind].decode(self.json)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job ended; `result`, `error` (a `Failure`), `detail`, `variables` and their `types` are JSON text."""

    state: JobState
    result: bytes | None = None
    error: bytes | None = None
    detail: bytes | None = None
    variables: bytes | None = None
    types: bytes = b"{}"

    @classmethod
    def failed(cls, failure: Failure, *, state: JobState = JobState.FAILED, result: bytes | None = b"false") -> Outcome:
        return cls(state=state, result=result, error=msgspec.json.encode(failure))
