"""Deployed models: what web knows about them, and the requests to model workers."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.ipc.messages.base import Message, Request
from tfserve.ipc.messages.placement import Autoscale, NeededResources
from tfserve.models.runtime_reports import ConversionGuard, RuntimeTrial


class ModelOptions(msgspec.Struct, frozen=True):
    """How to serve a deployment: what `/deploy/` takes in addition to the path.

    `runtime` is a name of `tfserve.runtimes`, or `auto`. `max_batch_size` counts rows, `max_delay_s` is how long a
    request may wait to be batched. `image` says how files become the input.
    `warm_up` is false for none, or the inputs of an example to warm up with. With `stateless` the model's state is
    reset before each call.
    `inputs` and `outputs` name those tensors of a frozen graph. `device_memory_bytes` limits each process on a GPU;
    unset, or 0, for the limit of the server. `computations` run at once; unset, or 0, for as many as pay off. After
    `idle_after_s` without a prediction the model sleeps: 0 for never, unset for the default of the server. `placement`
    is `pack`, or unset to spread the replicas over the nodes. Each replica needs `resources`. With `autoscale`,
    `replicas` follows the load.
    """

    runtime: str = "auto"
    replicas: int = 1
    max_batch_size: int = 64
    max_delay_s: float = 0.0
    precision: str = "float32"
    image: dict[str, Any] | None = None
    warm_up: bool | dict[str, Any] = True
    stateless: bool = False
    inputs: list[str] = []
    outputs: list[str] = []
    # Unset fields are not stored, as a repeated idempotency key is compared with what earlier releases stored.
    device_memory_bytes: int | msgspec.UnsetType = msgspec.UNSET
    computations: int | msgspec.UnsetType = msgspec.UNSET
    idle_after_s: float | msgspec.UnsetType = msgspec.UNSET
    placement: str | msgspec.UnsetType = msgspec.UNSET
    resources: NeededResources | msgspec.UnsetType = msgspec.UNSET
    autoscale: Autoscale | msgspec.UnsetType = msgspec.UNSET


class Concurrency(msgspec.Struct, frozen=True):
    """What a model process does at load: how many batches it computes at once, the threads of each, and the most rows.

    A request that is alone is computed with all threads.
    """

    computations: int
    threads: int
    max_batch: int


class ModelVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a workspace's model, for web. `addresses` are the replicas that take predictions.

    `state` is `loading`, `active`, `sleeping`, `draining` or `failed`; `reason` says why it is not active, or why it
    could not be woken. `runtime` computes it.
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
    #: what its users must know, as plain sentences
    remarks: list[str] = []
    #: the labels by which clients may request it
    labels: list[str] = []
    #: the workspace that serves it, if that has another name than the model
    workspace: str = ""
    #: whether computing it changes its later outputs
    is_stateful: bool = False
    #: of one of its processes
    concurrency: Concurrency | None = None


class Models(Message):
    """Every deployed model, by workspace."""

    models: dict[str, list[ModelVersion]]


class GetModels(Request[Models]):
    """Web asks once, before it is ready; after that it is notified of every change."""


class ModelChanged(Request[None]):
    """The supervisor notifies web of what is deployed in a workspace now; empty when nothing is."""

    workspace: str
    versions: list[ModelVersion]


class DrainModel(Request[None]):
    """Web responds when it waits for nothing more from these replicas of a deployment."""

    workspace: str
    id: int
    addresses: list[str]


class ScaleModel(Request[None]):
    """Changes how many replicas the deployed model of a workspace has, or its autoscaling. Responds when they serve.

    `replicas` is None for as many as it has. `autoscale` is False to turn it off.
    """

    workspace: str
    replicas: int | None = None
    autoscale: Autoscale | bool | msgspec.UnsetType = msgspec.UNSET


class ReadInFlight(Request[dict[int, int]]):
    """The supervisor asks each web process how many predictions of these deployments it waits for."""

    deployments: list[int]


class WakeModel(Request[None]):
    """Web needs a model that sleeps, or, `in_full`, a signature that only TensorFlow computes.

    Responds when its process is ready, and web notified.
    """

    workspace: str
    in_full: bool = False


class ModelLoaded(Message):
    """`format` is a word for people; `version` the number of its folder, if it has one.

    `signatures` maps a signature's name to its inputs and outputs, `warm_up` says what was done to warm up, `remarks`
    what users of the model must know.
    """

    format: str
    version: int | None
    signatures: dict[str, Any]
    warm_up: str
    memory_bytes: int
    runtime: str = "tensorflow"
    image: dict[str, Any] | None = None
    remarks: list[str] = []
    #: whether it keeps values from one call to the next
    is_stateful: bool = False
    #: where web connects to, see `tfserve.cluster.addresses`; empty if it takes no predictions
    address: str = ""


class WarmUpStep(Message):
    """The worker reports what it is about to compute for its warm-up, and when that has ended. No response.

    `problem` says why the worker ends itself because of it.
    """

    step: str
    has_ended: bool = False
    problem: str = ""


class BecomeModel(Request[ModelLoaded]):
    """Load a model and compute predictions with it.

    `weights` are other weights for a meta graph. `sample` is a predict request that the former model computed; the
    new one is warmed up with it where its signature does not say how, and with `samples`, each a `ComputeRequest` from
    web. The model listens on the Unix socket `address` (see `tfserve.ipc.predictions`). A
    computation that takes longer than `time_limit_s` ends the process. `source` is what a converted model was made of,
    and TensorFlow computes `in_full` what its `guard` does not let pass.
    `skip` are steps of the warm-up that another process did not survive. `memory_limit_bytes` is what the process may
    use, 0 for no limit. `deployment` is the number by which another head recognises what it serves, `path_on_head` the
    path of the model there.
    """

    workspace: str
    path: str
    source: str = ""
    weights: str | None = None
    device: str = "/cpu:0"
    sample: bytes | None = None
    samples: list[bytes] = []
    address: str = ""
    options: ModelOptions = ModelOptions()
    time_limit_s: float = 60.0
    skip: list[str] = []
    guard: ConversionGuard | None = None
    memory_limit_bytes: int = 0
    deployment: int = 0
    path_on_head: str = ""


class Samples(Message):
    """Each an encoded `tfserve.ipc.predictions.ComputeRequest`."""

    asks: list[bytes]


class ReadSamples(Request[Samples]):
    """Some of the requests that the model has computed. With `prepared`, files are decoded."""

    prepared: bool = False


class SamplesSeen(Message):
    """The number of distinct requests that a model worker has sampled; sent when it grows, and occasionally later."""

    count: int


class ConcurrencyChosen(Message):
    """A model worker sends its concurrency when it is loaded, and whenever it has chosen another."""

    concurrency: Concurrency


class IdleSince(Request[float]):
    """Seconds since the model's last prediction."""


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """Either the `result`, a JSON list with one value for each fetched tensor, or the `error`, a Failure as JSON.

    With `in_full` the error is that this runtime does not know a name, or does not compute such values; TensorFlow may.
    """

    result: bytes | None = None
    error: bytes | None = None
    in_full: bool = False


class Predictions(Message):
    """One for each request, in their order.

    They may be fewer than the requests, but at least one, when the results are large: then request the rest again.
    """

    predictions: list[Prediction]


class Predict(Request[Predictions]):
    """Computes predict requests (each a `PredictJob` as JSON) together."""

    requests: list[bytes]


class IdentifyModel(Request[str]):
    """Responds with a key of a SavedModel or Keras file; fails for what can't be converted.

    The key changes with the files' bytes, the versions of the runtimes, the processor and the precision.
    """

    path: str
    precision: str = "float32"


class Converted(Message):
    """What one candidate was found to be."""

    trial: RuntimeTrial


class Convert(Request[Converted]):
    """Convert a SavedModel or Keras file for one runtime, and compare and time it.

    The first `candidate` of a work folder is `tensorflow`: it computes what the others are compared with. `key` is the
    response to IdentifyModel. `samples` are requests that the model has computed: each the body of a `ComputeRequest`
    of `tfserve.ipc.predictions`, or a predict request as JSON. When a runtime `was_requested` by name, the model is
    converted for it even if nothing can be compared. With `again`, a former trial of this folder, it is only timed.
    """

    candidate: str
    path: str
    key: str
    work_folder: str
    precision: str = "float32"
    samples: list[bytes] = []
    was_requested: bool = False
    again: RuntimeTrial | None = None
