"""Everything that processes say to each other: a closed set, one small class each.

JSON that only passes through (a request's values, a result, a job's error) travels as `bytes` of JSON text: web and
worker know what it means, the supervisor in between only keeps it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from tfserve.conversions import Trial
from tfserve.errors import Failure
from tfserve.ipc.metrics import (
    Deaths,
    NamedCounts,
    ProcessUse,
    TrainingCounts,
    WebCounts,
    WorkspaceCounts,
)

#: The `format` of a deployment that takes new weights without a graph of their own.
META_GRAPH = "TF1 meta graph"


AUTO = "auto"

#: Stands for a job's number in an Interrupt that stops the reading of variables.
READING = -1


class _Message(msgspec.Struct, kw_only=True, tag=True, tag_field="is", omit_defaults=True):
    pass


class JobKind(StrEnum):
    SCRIPT = "script"
    CLEAR = "clear"
    DEPLOY = "deploy"
    UPDATE = "update"
    UNDEPLOY = "undeploy"
    PREDICT = "predict"
    TRAIN = "train"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


#: the states of a job that has ended
FINISHED_STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.LOST)


class ModelOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a deployment wants to be served; what `/deploy/` takes beside the path.

    `runtime` is a name of `tfserve.runtimes`, or `auto`. `max_batch_size` counts rows, `max_delay_s` is how long a
    request may wait for company. `image` says how files become the input, `precision` is `float32` unless asked.
    """

    runtime: str = "auto"
    replicas: int = 1
    max_batch_size: int = 64
    max_delay_s: float = 0.0
    precision: str = "float32"
    image: dict[str, Any] | None = None


class ModelVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a workspace's model as web must know it. `addresses` are the replicas that take predictions.

    `state` is `loading`, `active`, `draining` or `failed`; `reason` says why it is not active. `runtime` computes it.
    """

    id: int
    version: int
    state: str
    addresses: list[str] = []
    #: the signatures that `addresses` compute; None for all. The others are computed at `full_addresses`
    served: list[str] | None = None
    full_addresses: list[str] = []
    format: str = ""
    runtime: str = ""
    signatures: dict[str, Any] = {}
    options: ModelOptions = ModelOptions()
    image: dict[str, Any] | None = None
    reason: str = ""
    path: str = ""


# --- answers that fit many questions


class Done(_Message):
    """It is done; `value` is whatever small thing the question asked for."""

    value: Any = None


class Failed(_Message):
    """It could not be done, and why."""

    failure: Failure


# --- web asks the supervisor


class WebReady(_Message):
    """The web process accepts connections."""


class GetServer(_Message):
    """Answered by Done(dict): all that the status page shows of the living server."""


class GetMetrics(_Message):
    """Answered by Metrics."""


class Metrics(_Message):
    """All that is counted and measured of the living server; `started_at` is a Unix time in seconds."""

    version: str
    started_at: float
    models: list[NamedCounts]
    http_errors: dict[str, dict[str, int]]
    workspaces: list[WorkspaceCounts]
    trainings: TrainingCounts
    processes: list[ProcessUse]
    deaths: list[Deaths]


class IsReady(_Message):
    """Answered by Done(bool): whether the server takes work."""


class ListWorkspaces(_Message):
    """Answered by Done(list): the names of all workspaces."""


class TurnService(_Message):
    """Turns the workspace service on or off. Answered by Done(bool): whether that changed anything."""

    on: bool


class CreateWorkspace(_Message):
    """Answered by Done(name)."""

    name: str | None = None
    type: int = 0


class DestroyWorkspace(_Message):
    """Destroys one workspace, or all. Answered by Done(bool)."""

    name: str | None = None


class RestartWorkspace(_Message):
    """Gives a workspace a fresh process. Answered by Done(True)."""

    name: str


class GetWorkspace(_Message):
    """Answered by Done(dict): the live status of one workspace."""

    name: str


class SubmitJob(_Message):
    """Puts a job in a workspace's queue and waits up to `wait_s` for its end. Answered by JobAnswer."""

    workspace: str
    kind: JobKind
    request: bytes
    wait_s: float = 0.0
    time_limit_s: float | None = None
    idempotency_key: str | None = None


class JobAnswer(_Message):
    """What is known of a job when the wait for it is over."""

    job: int
    id: int
    kind: JobKind
    state: JobState
    waited_s: float
    result: bytes | None = None
    error: bytes | None = None
    detail: bytes | None = None
    variables: bytes | None = None


class CancelJob(_Message):
    """Ends a job. Answered by JobAnswer when it has ended, by Done when it neither waits nor runs."""

    workspace: str
    job: int


class StartTraining(_Message):
    """Examines a project and queues a training task for it. Answered by Done(task id), or Failed with all problems."""

    user_id: str
    project_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    deploy_to: str | None = None


class CancelTask(_Message):
    """Answered by Done when the task has ended."""

    task_id: str


class ResumeTask(_Message):
    """Gives a task that has ended, but is not done, another run. Answered by Done."""

    task_id: str


class GetVariables(_Message):
    """Answered by Variables: full values from the live worker while it is idle, else from the snapshot."""

    workspace: str
    names: list[str] | None = None


class WaitOutput(_Message):
    """Answered by Done(bool: has the job ended) when the job's output reaches beyond `offset`, or it has ended."""

    job_id: int
    offset: int
    wait_s: float


class WaitChange(_Message):
    """Answered by Done(int: the newest revision) when anything has changed since revision `since`."""

    since: int
    wait_s: float


# --- the supervisor tells web


class GetModels(_Message):
    """Web asks once, before it is ready. Answered by Models."""


class Models(_Message):
    """Every deployed model, by workspace."""

    models: dict[str, list[ModelVersion]]


class ModelChanged(_Message):
    """What is deployed in a workspace now; empty when nothing is. The supervisor asks web, which answers Done."""

    workspace: str
    versions: list[ModelVersion]


class DrainModel(_Message):
    """Web answers Done when it waits for nothing more from these replicas of a deployment."""

    workspace: str
    id: int
    addresses: list[str]


class ReadStatistics(_Message):
    """The supervisor asks each web process for what it has counted. Answered by Statistics."""


class Statistics(_Message):
    """Only grows, while the models stay."""

    counts: WebCounts


class ScaleModel(_Message):
    """Changes how many replicas the deployed model of a workspace has. Answered by Done when they serve."""

    workspace: str
    replicas: int


# --- the supervisor tells a worker


class WorkerReady(_Message):
    """A worker's first words: it can be given a role. Sent with request id 0."""

    warm: bool


class BecomeScripts(_Message):
    """Run the scripts of one workspace in the main thread, with `folder` as working directory. Answered by Done."""

    workspace: str
    folder: str


class BecomeHost(_Message):
    """Run the scripts of many workspaces, each in a thread of its own. Answered by Done."""


class BecomeModel(_Message):
    """Load a model and answer predictions for it. Answered by ModelLoaded or Failed.

    `weights` are other weights for a meta graph. `sample` is a predict request that the model before answered; the
    new one is warmed up with it where its signature does not say how, and with `samples`, which are predictions of
    web's (an `Ask` each). Web reaches the model at the Unix socket `address` (see `tfserve.ipc.predictions`). A
    computation that takes longer than `time_limit_s` ends the process.
    """

    workspace: str
    path: str
    weights: str | None = None
    device: str = "/cpu:0"
    sample: bytes | None = None
    samples: list[bytes] = []
    address: str = ""
    options: ModelOptions = ModelOptions()
    time_limit_s: float = 60.0


class ModelLoaded(_Message):
    """`format` is a word for people; `version` the number of its folder, if it has one.

    `signatures` maps a signature's name to its inputs and outputs, `warm_up` says what was done to warm up.
    """

    format: str
    version: int | None
    signatures: dict[str, Any]
    warm_up: str
    memory_bytes: int
    runtime: str = "tensorflow"
    image: dict[str, Any] | None = None


class ReadSamples(_Message):
    """Answered by Samples: some of the last predictions that came over the model's socket."""


class IdleSince(_Message):
    """Answered by Done(seconds since the model's last prediction)."""


class WakeModel(_Message):
    """Web needs a signature that only TensorFlow computes. Answered by Done when its process is there."""

    workspace: str


class Samples(_Message):
    """Each an encoded `tfserve.ipc.predictions.Ask`."""

    asks: list[bytes]


class RunScript(_Message):
    """Run a file, or a text. Answered by ScriptEnded. `workspace` and `folder` matter to a host only."""

    job: int
    workspace: str
    folder: str
    file: str | None = None
    text: str | None = None
    clear: bool = False


class ScriptEnded(_Message):
    """`error` is a Failure as JSON; `variables` the bounded snapshot, a JSON object."""

    state: JobState
    error: bytes | None
    variables: bytes


class ClearVariables(_Message):
    """Forget all variables of a workspace. Answered by Done."""

    workspace: str


class ReadVariables(_Message):
    """Full values by name (all when None), up to `limit_bytes` of JSON. Answered by Variables or Failed."""

    workspace: str
    names: list[str] | None
    limit_bytes: int


class Variables(_Message):
    """A JSON object {name: value}. `complete` is false when it comes from the bounded snapshot."""

    values: bytes
    complete: bool = True


class Interrupt(_Message):
    """Raise KeyboardInterrupt in the job, if it is the one that runs. No answer: the job's own end is the answer."""

    job: int
    workspace: str


class DropWorkspace(_Message):
    """A host forgets a workspace. Answered by Done."""

    workspace: str


class Output(_Message):
    """A host tells what a thread's script wrote; `stream` is 1 (stdout) or 2 (stderr). Request id 0."""

    workspace: str
    job: int
    stream: int
    data: bytes


class Predict(_Message):
    """Run predict requests (JSON objects {fetches, feed_dict, signature}) together. Answered by Predictions."""

    requests: list[bytes]


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Either the `result`, a JSON list with one value for each fetched tensor, or the `error`, a Failure as JSON.

    With `in_full` the error is that this runtime does not know a name, which TensorFlow may know.
    """

    result: bytes | None = None
    error: bytes | None = None
    in_full: bool = False


class Predictions(_Message):
    """One for each request, in their order.

    They may be fewer than the requests, but at least one, when the results are large: then ask again for the rest.
    """

    predictions: list[Prediction]


class ExamineProject(_Message):
    """Look through a project folder before anything is trained. Answered by ProjectExamined or Failed.

    What was found is written to the file `findings`, from which the training goes on, unless there are problems.
    Links that lead outside of `roots` are not followed; without roots all are.
    """

    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    findings: str
    roots: list[str] = []


class ProjectExamined(_Message):
    """`problems` are sentences with paths: with any, there is no training. `skipped` are {path, reason}, bounded."""

    problems: list[str]
    skipped: list[dict[str, str]]
    skipped_count: int
    image_count: int
    classes: list[str]


class Train(_Message):
    """Train what ExamineProject found. Answered by TrainingEnded; Progress comes meanwhile.

    `folder` is where the result is moved to when it is complete, `work_folder` holds checkpoints between attempts.
    """

    job: int
    task_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    findings: str
    folder: str
    work_folder: str


class Progress(_Message):
    """How far a training has come; `progress` is 0..100. Sent with request id 0."""

    job: int
    progress: float
    message: str
    eta_s: float | None = None
    metrics: dict[str, Any] | None = None


class TrainingEnded(_Message):
    """`error` is a Failure as JSON; `model_path` the SavedModel in `folder`; `metrics` a summary for the task."""

    state: JobState
    error: bytes | None = None
    model_path: str | None = None
    metrics: dict[str, Any] | None = None


class IdentifyModel(_Message):
    """Say which SavedModel or Keras file this is. Answered by Done(key), or Failed for what can't be converted.

    The key changes with the files' bytes, the versions of the runtimes, the processor and the precision.
    """

    path: str
    precision: str = "float32"


class Convert(_Message):
    """Convert a SavedModel or Keras file for one runtime, and compare and time it. Answered by Converted or Failed.

    The first `candidate` of a work folder is `tensorflow`: it computes what the others are compared with. `key` is the
    answer to IdentifyModel. `samples` are requests that the model has answered: each the body of an `Ask` of
    `tfserve.ipc.predictions`, or a predict request as JSON.
    """

    candidate: str
    path: str
    key: str
    work_folder: str
    precision: str = "float32"
    samples: list[bytes] = []


class Converted(_Message):
    """What one candidate was found to be."""

    trial: Trial


class Stop(_Message):
    """Finish what you are doing and exit. No answer but the end of the process."""


Message = (
    Done
    | Failed
    | WebReady
    | GetServer
    | GetMetrics
    | Metrics
    | IsReady
    | ListWorkspaces
    | TurnService
    | CreateWorkspace
    | DestroyWorkspace
    | RestartWorkspace
    | GetWorkspace
    | SubmitJob
    | JobAnswer
    | CancelJob
    | StartTraining
    | CancelTask
    | ResumeTask
    | GetVariables
    | WaitOutput
    | WaitChange
    | GetModels
    | Models
    | ModelChanged
    | DrainModel
    | ReadStatistics
    | Statistics
    | ScaleModel
    | WorkerReady
    | BecomeScripts
    | BecomeHost
    | BecomeModel
    | ModelLoaded
    | ReadSamples
    | IdleSince
    | WakeModel
    | Samples
    | RunScript
    | ScriptEnded
    | ClearVariables
    | ReadVariables
    | Variables
    | Interrupt
    | DropWorkspace
    | Output
    | Predict
    | Predictions
    | ExamineProject
    | ProjectExamined
    | Train
    | Progress
    | TrainingEnded
    | IdentifyModel
    | Convert
    | Converted
    | Stop
)
