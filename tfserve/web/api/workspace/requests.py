"""The request of each endpoint: fields, types, limits and defaults.

Decoder, API guide and OpenAPI document are generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw

from tfserve import sizes
from tfserve.errors import Invalid
from tfserve.ipc.messages import Limits, ScaleModel, UpdateJob
from tfserve.ipc.messages.declarations import IDLE_AFTER, MAX_IDLE_S, WARM_UP, ModelFields
from tfserve.ipc.messages.placement import Autoscale, Placement, Replicas, Resources, switched

T = TypeVar("T")

YEAR_S = 366 * 24 * 3600.0

Name = Annotated[str, Meta(description="name of the workspace", min_length=1)]
JobNumber = Annotated[int, Meta(description="number of the job in its workspace, from 0", ge=0)]
MAX_NAMES = 10_000
"""Of the inputs or outputs of one prediction. A model that has more is not known."""

Timeout = Annotated[float, Meta(description="seconds to wait for the job to finish; 0: do not wait", ge=0, le=YEAR_S)]
Interval = Annotated[
    float,
    Meta(
        description="ignored: the server responds as soon as the job finishes",
        ge=0,
        le=YEAR_S,
    ),
]
TimeLimit = Annotated[
    Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0})] | None,
    Meta(description="maximum run time of the job in seconds, after which it fails (no limit)"),
]


NewAutoscale = Annotated[
    Autoscale | bool | None, Meta(description="as in /deploy/, or false to keep a fixed number (default: as deployed)")
]
Callback = Annotated[
    str | None, Meta(description="URL that receives the job as JSON by POST when it has ended, signed and retried")
]


class Empty(msgspec.Struct, kw_only=True):
    pass


class WorkspaceLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    memory: Annotated[str, Meta(description="memory of each process with everything it starts, such as 2GiB")] = ""
    threads: Annotated[int, Meta(description="processors that each process may use", ge=0)] = 0
    processes: Annotated[int, Meta(description="processes that a process may start and keep", ge=0)] = 0
    disk: Annotated[str, Meta(description="size of the workspace's folder, such as 5GB")] = ""
    output: Annotated[str, Meta(description="output kept of a job, such as 1MiB")] = ""
    job_time: Annotated[float, Meta(description="seconds that a script may run", ge=0)] = 0.0


class CreateWorkspace(msgspec.Struct, kw_only=True):
    name: Annotated[str | None, Meta(description="1 to 100 letters, digits, spaces, '.', '_', '-' (random)")] = None
    type: Annotated[Literal[0, 1], Meta(description="0: own process, 1: thread of a shared process")] = 0
    time_interval: Interval = 1.0
    limits: Annotated[
        WorkspaceLimits | None, Meta(description="limits below those of the server; 0 or empty: those of the server")
    ] = None
    resources: Annotated[
        Resources | None, Meta(description="what its process needs, which decides where it runs; only for type 0")
    ] = None

    @property
    def own_limits(self) -> Limits:
        """Raises `Invalid` for a size that can't be read."""
        given = self.limits or WorkspaceLimits()
        return Limits(
            memory_bytes=sizes.parse(given.memory, "limits.memory"),
            threads=given.threads,
            processes=given.processes,
            disk_bytes=sizes.parse(given.disk, "limits.disk"),
            output_bytes=sizes.parse(given.output, "limits.output"),
            job_time_s=given.job_time,
        )


class DestroyWorkspace(msgspec.Struct, kw_only=True):
    name: Annotated[str | None, Meta(description="name of the workspace (all workspaces)")] = None


class OneWorkspace(msgspec.Struct, kw_only=True):
    name: Name


class _Waits(msgspec.Struct, kw_only=True):
    name: Name
    timeout: Timeout = 1.0
    time_interval: Interval = 1.0
    time_limit: TimeLimit = None
    callback: Callback = None


class PushJob(_Waits, kw_only=True):
    job: Annotated[
        str,
        Meta(description="path of a file on the server or upload:<id>, or the text of a script, depending on `type`"),
    ]
    type: Annotated[Literal[0, 1], Meta(description="0: `job` is a file path, 1: `job` is a script")] = 0
    clear: Annotated[bool, Meta(description="delete all variables first")] = False
    resources: Annotated[
        Resources | None, Meta(description="refuse the job if its workspace does not have these resources")
    ] = None


class Clear(_Waits, kw_only=True):
    pass


class Deploy(ModelFields, kw_only=True):  # a struct can't inherit from _Waits as well
    name: Name
    path: Annotated[
        str,
        Meta(
            description="a SavedModel folder, a folder of numbered versions, a model file, or upload:<id>", min_length=1
        ),
    ]
    timeout: Timeout = 1.0
    time_interval: Interval = 1.0
    time_limit: TimeLimit = None
    callback: Callback = None


class Scale(msgspec.Struct, kw_only=True):
    name: Name
    replicas: Annotated[Replicas | None, Meta(description="number of processes that serve the model")] = None
    autoscale: NewAutoscale = None

    def message(self, workspace: str) -> ScaleModel:
        """Raises `Invalid`."""
        if self.replicas is None and self.autoscale is None:
            raise Invalid("Give replicas (a number), or autoscale (new limits, or false).", field="replicas")
        if self.replicas is not None and isinstance(self.autoscale, Autoscale):
            raise Invalid("Give either replicas or autoscale: with autoscale, the load decides.", field="replicas")
        return ScaleModel(workspace=workspace, replicas=self.replicas, autoscale=_checked(self.autoscale))


class Update(_Waits, kw_only=True):
    path: Annotated[
        str, Meta(description="path of a new version, or for a meta graph the prefix of new weights", min_length=1)
    ]
    warm_up: Annotated[
        bool | dict[str, Any] | None, Meta(description=f"as in /deploy/ (default: as deployed); {WARM_UP}")
    ] = None
    idle_after: Annotated[
        Annotated[float, Meta(ge=0, le=MAX_IDLE_S)] | None, Meta(description=f"{IDLE_AFTER} (default: as deployed)")
    ] = None
    replicas: Annotated[Replicas | None, Meta(description="as in /deploy/ (default: as many as serve now)")] = None
    placement: Annotated[Placement | None, Meta(description="as in /deploy/ (default: as deployed)")] = None
    resources: Annotated[
        Resources | None, Meta(description="as in /deploy/; {} for nothing (default: as deployed)")
    ] = None
    autoscale: NewAutoscale = None

    def job(self, path: str) -> UpdateJob:
        """`path` is the resolved one. Raises `Invalid`."""
        return UpdateJob(
            path=path,
            warm_up=self.warm_up,
            idle_after_s=given(self.idle_after),
            replicas=given(self.replicas),
            placement=given(self.placement),
            resources=msgspec.UNSET if self.resources is None else self.resources.needed(),
            autoscale=_checked(self.autoscale),
        )


class Undeploy(_Waits, kw_only=True):
    pass


class Predict(_Waits, kw_only=True):
    fetches: Annotated[
        str | Annotated[list[str], Meta(max_length=MAX_NAMES)],
        Meta(description="collection key, signature output or tensor name, or a list of them"),
    ]
    feed_dict: Annotated[
        dict[str, Raw],
        Meta(description="collection key, signature input or tensor name -> value", max_length=MAX_NAMES),
    ] = {}
    signature: Annotated[str, Meta(description="signature of the model whose input and output names are used")] = (
        "serving_default"
    )


class GetFinish(msgspec.Struct, kw_only=True):
    name: Name
    job: Annotated[JobNumber | None, Meta(description="number of the job (the last job)")] = None


class GetVariable(msgspec.Struct, kw_only=True):
    name: Name
    variable: Annotated[str | list[str] | None, Meta(description="a name or a list of names (all)")] = None


class GetResult(msgspec.Struct, kw_only=True):
    name: Name
    job: Annotated[JobNumber | None, Meta(description="number of the job (all finished jobs)")] = None


class CancelJob(msgspec.Struct, kw_only=True):
    name: Name
    job: JobNumber


def given(value: T | None) -> T | msgspec.UnsetType:
    """A field of a stored request: unset if the client did not give it."""
    return msgspec.UNSET if value is None else value


def _checked(autoscale: Autoscale | bool | None) -> Autoscale | bool | msgspec.UnsetType:
    if autoscale is None:
        return msgspec.UNSET
    return switched(autoscale) or False
