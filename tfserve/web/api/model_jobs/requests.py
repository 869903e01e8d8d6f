"""The requests and results of batches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tfserve.ipc.messages import JobKind, JobState
from tfserve.web.api.workspace.requests import Callback, Name, Timeout

MAX_BATCH_SIZE = 4096


class CreateBatch(msgspec.Struct, kw_only=True):
    name: Name
    input: Annotated[
        str,
        Meta(
            description="a file or a folder of images: upload:<id>, workspace:<path> in the folder of the workspace, or"
            " a path on the server",
            min_length=1,
        ),
    ]
    format: Annotated[
        Literal["auto", "jsonl", "csv", "images"], Meta(description="format of the input; auto: by its name")
    ] = "auto"
    output: Annotated[Literal["jsonl", "csv"], Meta(description="format of the output")] = "jsonl"
    version: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="version of the model (the one that serves)")
    ] = None
    signature: Annotated[str | None, Meta(description="signature of the model (serving_default, or the only one)")] = (
        None
    )
    batch_size: Annotated[
        int,
        Meta(
            description="rows that are computed together in one request; a model that mixes rows needs 1",
            ge=1,
            le=MAX_BATCH_SIZE,
        ),
    ] = 1
    max_errors: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="the batch fails after more failed rows (no limit)")
    ] = None
    columns: Annotated[
        list[str] | dict[str, str | list[str]] | None,
        Meta(description="columns of a CSV file, in order, or {input: column or columns} (those named as the inputs)"),
    ] = None
    callback: Callback = None
    timeout: Timeout = 0.0


class ResumeBatch(msgspec.Struct, kw_only=True):
    max_errors: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="the batch fails after more failed rows, with those of the old batch (the old limit)"),
    ] = None
    callback: Callback = None
    timeout: Timeout = 0.0


class Batch(msgspec.Struct, kw_only=True):
    """A batch and its progress. `output` is the path from which to download what is there."""

    id: int
    job: int
    kind: JobKind
    state: JobState
    model: str
    done: int
    total: int | None
    errors: int
    output_bytes: int
    rows_per_s: float
    time_left_s: float | None
    output: str
    result: Any
    error: Any


class Secret(msgspec.Struct):
    """What signs the callbacks of your jobs."""

    secret: str
