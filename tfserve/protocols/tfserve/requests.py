"""The request of each endpoint: its fields, their types, limits and defaults, once.

The decoder, the API guide and the OpenAPI document are all made from these classes.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Raw

from tfserve import json_numbers
from tfserve.errors import Invalid, nearest
from tfserve.json_limits import check_expansion, check_text, without_bom

YEAR_S = 366 * 24 * 3600.0
MAX_KEY = 200
"""Characters of an Idempotency-Key."""

Name = Annotated[str, Meta(description="name of the workspace", min_length=1)]
JobNumber = Annotated[int, Meta(description="number of the job in its workspace, from 0", ge=0)]
Timeout = Annotated[float, Meta(description="seconds to wait for the job's end; 0 does not wait", ge=0, le=YEAR_S)]
Interval = Annotated[
    float,
    Meta(
        description="accepted for older clients: an answer comes as soon as there is one, never later", ge=0, le=YEAR_S
    ),
]
TimeLimit = Annotated[
    Annotated[float, Meta(extra_json_schema={"exclusiveMinimum": 0})] | None,
    Meta(description="seconds that the job may run, then it is ended as failed (no limit)"),
]

_WARM_UP = "false for none; or an example: {input: value}, or {signature, inputs: {input: value}}"

Replicas = Annotated[int, Meta(description="processes that hold the model", ge=1, le=64)]


class Empty(msgspec.Struct, kw_only=True):
    pass


class CreateWorkspace(msgspec.Struct, kw_only=True):
    name: Annotated[str | None, Meta(description="1 to 100 letters, digits, spaces, '.', '_', '-' (random)")] = None
    type: Annotated[Literal[0, 1], Meta(description="0 a process of its own, 1 a thread of a shared process")] = 0
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
    job: Annotated[str, Meta(description="a file on the server, or a script; which one is told by `type`")]
    type: Annotated[Literal[0, 1], Meta(description="0 `job` is a file, 1 `job` is a script")] = 0
    clear: Annotated[bool, Meta(description="forget all variables first")] = False


class Clear(_Waits, kw_only=True):
    pass


class Deploy(_Waits, kw_only=True):
    path: Annotated[
        str,
        Meta(description="a SavedModel folder, a folder of numbered versions, or a model file", min_length=1),
    ]
    device: Annotated[str, Meta(description="where the model computes: /cpu:0, /gpu:0")] = "/cpu:0"
    replicas: Replicas = 1
    runtime: Annotated[
        Literal["auto", "tensorflow", "openvino", "litert", "onnxruntime"],
        Meta(description="what computes it; auto takes the fastest that was shown to give the same numbers"),
    ] = "auto"
    precision: Annotated[
        Literal["float32", "bf16", "int8"], Meta(description="less than float32 is faster and changes answers")
    ] = "float32"
    max_batch_size: Annotated[int, Meta(description="rows that are computed together at most", ge=1, le=4096)] = 64
    max_delay: Annotated[
        float, Meta(description="seconds that a prediction may wait for others to be computed with", ge=0, le=10)
    ] = 0.0
    image: Annotated[
        dict[str, Any] | None,
        Meta(description="how image files become the input (what training wrote beside the model)"),
    ] = None
    warm_up: Annotated[
        bool | dict[str, Any], Meta(description=f"whether to compute before the first request; {_WARM_UP}")
    ] = True
    stateless: Annotated[
        bool, Meta(description="reset the model's state before each call; without, callers share it")
    ] = False
    inputs: Annotated[
        list[str],
        Meta(description="for a frozen graph: the tensors that are its inputs; its placeholders if not given"),
    ] = []
    outputs: Annotated[
        list[str], Meta(description="for a frozen graph: its outputs; what nothing else in it uses if not given")
    ] = []

    @property
    def options(self) -> dict[str, Any]:
        """The fields of `tfserve.ipc.messages.ModelOptions`."""
        return {
            "runtime": self.runtime,
            "replicas": self.replicas,
            "max_batch_size": self.max_batch_size,
            "max_delay_s": self.max_delay,
            "precision": self.precision,
            "image": self.image,
            "warm_up": self.warm_up,
            "stateless": self.stateless,
            "inputs": self.inputs,
            "outputs": self.outputs,
        }


class Scale(msgspec.Struct, kw_only=True):
    name: Name
    replicas: Replicas


class Update(_Waits, kw_only=True):
    path: Annotated[str, Meta(description="a new version, or for a meta graph the prefix of new weights", min_length=1)]
    warm_up: Annotated[
        bool | dict[str, Any] | None, Meta(description=f"as in /deploy/ (as the model was deployed); {_WARM_UP}")
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
    signature: Annotated[str, Meta(description="which of the model's signatures names inputs and outputs")] = (
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


R = TypeVar("R", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"unknown field `(.+)`")
MAX_WARNINGS = 20
MAX_FIELD_CHARACTERS = 100


class Reader(Generic[R]):
    """Reads the requests of one endpoint. A field that it does not know is no error (old clients) but a warning."""

    def __init__(self, request: type[R]) -> None:
        strict = msgspec.defstruct(request.__name__, [], bases=(request,), kw_only=True, forbid_unknown_fields=True)
        self._strict: msgspec.json.Decoder[R] = msgspec.json.Decoder(cast(type[R], strict))
        self._tolerant = msgspec.json.Decoder(request)

    def read(self, body: bytes, warnings: list[str]) -> R:
        """The request in a body; what is odd about it is added to `warnings`, also if it raises `Invalid`."""
        try:
            return decode(body, self._strict)
        except Invalid as error:
            if "unknown field" not in error.message:
                raise
        with contextlib.suppress(msgspec.DecodeError):  # further on in the body, which is then refused below
            known = self._tolerant.type.__struct_encode_fields__
            warnings += unknown_fields(msgspec.json.decode(without_bom(body), type=dict[str, Raw]), known)
        return decode(body, self._tolerant)


def unknown_fields(given: Iterable[str], known: Sequence[str]) -> list[str]:
    """A warning for each given field that is not among the known ones, with the field that was probably meant."""
    unknown = [name for name in given if name not in known]
    shown = unknown[:MAX_WARNINGS]
    warnings = [f"unknown field {name[:MAX_FIELD_CHARACTERS]!r}; {_meant(name, known)}" for name in shown]
    rest = len(unknown) - len(shown)
    return [*warnings, f"{rest} more unknown fields"] if rest else warnings


def _meant(name: str, known: Sequence[str]) -> str:
    # Without case and separators, which difflib counts as differences: TimeOut, JOB, time-limit.
    plain = {field.replace("_", ""): field for field in known}
    short = name[:MAX_FIELD_CHARACTERS].lower().replace("_", "").replace("-", "")
    if match := difflib.get_close_matches(short, list(plain), n=1):
        return f"did you mean {plain[match[0]]!r}?"
    return f"the fields are {', '.join(known)}" if known else "this request has no fields"


def decode(body: bytes, decoder: msgspec.json.Decoder[R]) -> R:
    """The request in a body; an empty body counts as {}. Raises `Invalid` with what was expected and given."""
    body = without_bom(body)
    check_text(body)
    check_expansion(body, json_numbers.without_lists)
    try:
        return decoder.decode(body.strip() or b"{}")
    except msgspec.ValidationError as error:
        raise Invalid(_explain(str(error), decoder.type), field=_field(str(error))) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"The body must be a JSON object: {error}") from None


def _explain(problem: str, request: type[msgspec.Struct]) -> str:
    fields = ", ".join(
        f"{field.encode_name}{' (needed)' if field.required else ''}" for field in msgspec.structs.fields(request)
    )
    meant = nearest(unknown[1], request.__struct_encode_fields__) if (unknown := _UNKNOWN.search(problem)) else ""
    return f"{problem}{meant}. The fields of this request are: {fields or 'none'}."


def _field(problem: str) -> str | None:
    """The field that a message of msgspec's is about."""
    if "missing required field" in problem:
        return problem.rpartition("missing required field ")[2].strip("`")
    return problem.rpartition("- at `$.")[2].rstrip("`") or None if "- at `$." in problem else None
