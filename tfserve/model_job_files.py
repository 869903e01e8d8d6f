"""The files of deferred predictions and batches, which web, the batch process and the supervisor share.

    model-jobs/<folder>/request           the body of a deferred prediction
                        response          what its direct request would have returned
                        output.jsonl      or output.csv: what a batch has computed so far
                        checkpoint.json   how much of that output counts
                        computing         there once a stateful model may have computed something

Each file has one writer: web writes the request, and the output that a resumed batch begins with; the batch process
writes the rest. The supervisor removes folders.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

REQUEST, RESPONSE, CHECKPOINT, COMPUTING = "request", "response", "checkpoint.json", "computing"
FOLDER = "model-jobs"
"""In the data folder."""
KEPT_REQUEST_BYTES = 1024 * 1024
"""Larger bodies of deferred predictions are deleted when the job has ended, so these can't be repeated."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are done for good. What the output has beyond `output_bytes` is computed again."""

    rows: int = 0
    errors: int = 0
    output_bytes: int = 0
    total: int | None = None
    #: identifies the content of the input, so that a batch never continues with another one
    input: str = ""


class Responded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `detail` of a deferred prediction's outcome: what its response is, apart from the body."""

    content_type: str
    bytes: int
    #: of a binary response of v2
    inference_header_content_length: int | None = None


def output_name(form: str) -> str:
    """The name of the output file in the form `jsonl` or `csv`."""
    return f"output.{form}"


def read_checkpoint(folder: Path) -> Checkpoint:
    """The last checkpoint in a job's folder; an empty one before the first."""
    try:
        return msgspec.json.decode((folder / CHECKPOINT).read_bytes(), type=Checkpoint)
    except (OSError, msgspec.MsgspecError):
        return Checkpoint()
