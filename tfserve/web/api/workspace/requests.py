"""The request of each endpoint: fields, types, limits and defaults.

Decoder, API guide and OpenAPI document are generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from tfserve.ipc.messages import ModelOptions

YEAR_S = 366 * 24 * 3600.0

Name = Annotated[str, Meta(description="name of the workspace", min_length=1)]
JobNumber = Annotated[int, Meta(description="number of the job in its workspace, from 0", ge=0)]
Timeout = Annotated[float, Meta(description="seconds to wait for the job to finish; 0: do not wait", ge=0, le=YEAR_S)]
Interval = Annotated[
    float,
    Meta(
        description="ignored, accepted for older clients; the server responds as soon as the job finishes",
        ge=0,
        le=YEAR_S,
    ),
]
TimeLimit = Annotated[
    Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0})] | None,
    Meta(description="maximum run time of the job in seconds, after which it fails (no limit)"),
]

_WARM_UP = "false: no warm-up; or an example request: {input: value} or {signature, inputs: {input: value}}"

Replicas = Annotated[int, Meta(description="number of processes that serve the model", ge=1, le=64)]


class Empty(msgspec.Struct, kw_only=True):
    pass


class CreateWorkspace(msgspec.Struct, kw_only=True):
    name: Annotated[str | None, Meta(description="1 to 100 letters, digits, spaces, '.', '_', '-' (random)")] = None
    type: Annotated[Literal[0, 1], Meta(description="0: own process, 1: thread of a shared process")] = 0
    time_interval: Interval = 1.0


class DestroyWorkspace(msgspec.Struct, kw_only=True):
    name: Annotated[str | None, Meta(description="name of the workspace (all workspaces)")] = None


class OneWorkspace(msgspec.Struct, kw_only=True):
    name: Name


class _Waits(msgspec.Struct, kw_only=True):
    name: Name
    timeout: Timeout = 1.0
    time_interval: Interval = 1.0
    time_limit: TimeLimit = None


class PushJob(_Waits, kw_only=True):
    job: Annotated[
        str,
        Meta(description="path of a file on the server or upload:<id>, or the text of a script, depending on `type`"),
    ]
    type: Annotated[Literal[0, 1], Meta(description="0: `job` is a file path, 1: `job` is a script")] = 0
    clear: Annotated[bool, Meta(description="delete all variables first")] = False


class Clear(_Waits, kw_only=True):
    pass


class Deploy(_Waits, kw_only=True):
    path: Annotated[
        str,
        Meta(
            description="a SavedModel folder, a folder of numbered versions, a model file, or upload:<id>", min_length=1
        ),
    ]
    device: Annotated[str, Meta(description="device to run the model on: /cpu:0, /gpu:0")] = "/cpu:0"
    replicas: Replicas = 1
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
    image: Annotated[
        dict[str, Any] | None,
        Meta(description="how to preprocess image files (default: the file that training saved with the model)"),
    ] = None
    warm_up: Annotated[
        bool | dict[str, Any], Meta(description=f"run the model once before the first request; {_WARM_UP}")
    ] = True
    stateless: Annotated[
        bool, Meta(description="reset the model's state before each request; otherwise all callers share it")
    ] = False
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
            replicas=self.replicas,
            max_batch_size=self.max_batch_size,
            max_delay_s=self.max_delay,
            precision=self.precision,
            image=self.image,
            warm_up=self.warm_up,
            stateless=self.stateless,
            inputs=self.inputs,
            outputs=self.outputs,
        )


class Scale(msgspec.Struct, kw_only=True):
    name: Name
    replicas: Replicas


class Update(_Waits, kw_only=True):
    path: Annotated[
        str, Meta(description="path of a new version, or for a meta graph the prefix of new weights", min_length=1)
    ]
    warm_up: Annotated[
        bool | dict[str, Any] | None, Meta(description=f"as in /deploy/ (default: as deployed); {_WARM_UP}")
    ] = None


class Undeploy(_Waits, kw_only=True):
    pass


class Predict(_Waits, kw_only=True):
    fetches: Annotated[
        str | list[str], Meta(description="collection key, signature output or tensor name, or a list of them")
    ]
    feed_dict: Annotated[
        dict[str, Raw], Meta(description="collection key, signature input or tensor name -> value")
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
