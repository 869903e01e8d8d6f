"""What the models file declares, and the fields that its models share with `/deploy/`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tfserve import sizes
from tfserve.ipc.messages.base import Request
from tfserve.ipc.messages.models import ModelOptions
from tfserve.ipc.messages.placement import Autoscale, Placement, Replicas, Resources, first_replicas

MAX_VERSION = 2**63 - 1
MAX_SERVED_VERSIONS = 16
"""Maximum versions of one model at the same time: each is at least one process."""

WARM_UP = "false: no warm-up; or an example request: {input: value} or {signature, inputs: {input: value}}"

MAX_IDLE_S = 366 * 24 * 3600.0
IDLE_AFTER = "seconds without a prediction after which it releases its processes until the next one; 0: never"

IdleAfter = Annotated[
    Annotated[float, Meta(ge=0, le=MAX_IDLE_S)] | None, Meta(description=f"{IDLE_AFTER} (the server's setting)")
]
VersionNumber = Annotated[int, Meta(description="number of a version, the name of its folder", ge=0, le=MAX_VERSION)]


class ModelFields(msgspec.Struct, kw_only=True):
    """What to deploy and how to serve it."""

    path: Annotated[
        str,
        Meta(description="a SavedModel folder, a folder of numbered versions, or a model file", min_length=1),
    ]
    device: Annotated[str, Meta(description="device to run the model on: /cpu:0, /gpu:0")] = "/cpu:0"
    device_memory: Annotated[
        str, Meta(description="GPU memory limit of each of its processes, such as 2GiB (default: the server's setting)")
    ] = ""
    replicas: Replicas = 1
    placement: Placement = "spread"
    resources: Annotated[Resources | None, Meta(description="what each of its processes needs (nothing)")] = None
    autoscale: Annotated[
        Autoscale | None, Meta(description="start and end replicas by the predictions in flight (a fixed number)")
    ] = None
    runtime: Annotated[
        Literal["auto", "tensorflow", "openvino", "litert", "onnxruntime"],
        Meta(description="runtime of the model; auto selects the fastest one whose outputs match TensorFlow's"),
    ] = "auto"
    precision: Annotated[
        Literal["float32", "bf16", "int8"], Meta(description="lower than float32 is faster, but changes the results")
    ] = "float32"
    max_batch_size: Annotated[int, Meta(description="maximum number of rows in a batch", ge=1, le=4096)] = 64
    max_delay: Annotated[
        float, Meta(description="seconds that a prediction may wait to be batched with others", ge=0, le=10)
    ] = 0.0
    computations: Annotated[
        int, Meta(description="how many computations run at once at load; 0: as many as pay off", ge=0, le=64)
    ] = 0
    image: Annotated[
        dict[str, Any] | None,
        Meta(description="how to preprocess image files (default: the file that training saved with the model)"),
    ] = None
    warm_up: Annotated[
        bool | dict[str, Any], Meta(description=f"run the model once before the first request; {WARM_UP}")
    ] = True
    stateless: Annotated[
        bool, Meta(description="reset the model's state before each request; otherwise all callers share it")
    ] = False
    idle_after: IdleAfter = None
    inputs: Annotated[
        list[str],
        Meta(description="for a frozen graph: its input tensors (default: its placeholders)"),
    ] = []
    outputs: Annotated[
        list[str],
        Meta(description="for a frozen graph: its output tensors (default: those that no other operation uses)"),
    ] = []

    @property
    def options(self) -> ModelOptions:
        return ModelOptions(
            runtime=self.runtime,
            replicas=first_replicas(self.replicas, self.autoscale),
            max_batch_size=self.max_batch_size,
            max_delay_s=self.max_delay,
            precision=self.precision,
            image=self.image,
            warm_up=self.warm_up,
            stateless=self.stateless,
            inputs=self.inputs,
            outputs=self.outputs,
            computations=self.computations or msgspec.UNSET,
            device_memory_bytes=sizes.parse(self.device_memory, "device_memory") or msgspec.UNSET,
            idle_after_s=msgspec.UNSET if self.idle_after is None else self.idle_after,
            placement=msgspec.UNSET if self.placement == "spread" else self.placement,
            resources=(self.resources or Resources()).needed() or msgspec.UNSET,
            autoscale=self.autoscale or msgspec.UNSET,
        )


class NewestVersions(msgspec.Struct, forbid_unknown_fields=True):
    """The newest versions that can be loaded."""

    latest: Annotated[
        int, Meta(description="how many of the newest versions to serve", ge=1, le=MAX_SERVED_VERSIONS)
    ] = 1


class DeclaredModel(ModelFields, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model that the server deploys by itself. Its name is that of its workspace."""

    versions: Annotated[
        Literal["latest", "all"] | list[VersionNumber] | NewestVersions | None,
        Meta(description='which versions of the folder to serve: "latest", {latest = 2}, "all", or a list of numbers'),
    ] = None
    labels: Annotated[
        dict[str, VersionNumber], Meta(description="label -> number of the version; clients may request either")
    ] = {}
    default: Annotated[
        VersionNumber | str | None,
        Meta(description="version or label for requests that name neither (default: the newest one served)"),
    ] = None
    watch: Annotated[bool, Meta(description="deploy new versions when they appear in the folder")] = True


class DeclaredWorkspace(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A workspace that the server creates if it does not exist."""

    type: Annotated[Literal["process", "thread"], Meta(description="own process, or thread of a shared process")] = (
        "process"
    )


class Declarations(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything that one source declares. Paths are absolute."""

    workspaces: dict[str, DeclaredWorkspace] = {}
    models: dict[str, DeclaredModel] = {}


class Problem(msgspec.Struct, frozen=True):
    """One mistake in the models file."""

    message: str
    key: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = ", ".join(filter(None, [f"line {self.line}" if self.line is not None else "", self.key]))
        return f"{where}: {self.message}" if where else self.message


class DeclaredState(msgspec.Struct):
    """What is declared and what became of it, for the status page and the APIs."""

    #: the models file; None without one
    path: str | None = None
    problems: list[Problem] = []
    declared: list[str] = []
    #: why a model is not served as declared, by its name
    models: dict[str, list[str]] = {}


class GetDeclared(Request[DeclaredState]):
    """The state of the declarations."""


class ReloadModels(Request[None]):
    """Replaces all models that were declared through the API. Responds when they serve, or fails with the reasons."""

    models: dict[str, DeclaredModel]


class RetryDeclared(Request[None]):
    """Examines a declared model again, also after a failure. Responds when it serves, or fails with the reasons."""

    name: str
