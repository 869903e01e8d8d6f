"""What the check of a model's operations finds, and the sentences about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfserve.errors import Invalid

MAX_LISTED = 10
SETTING = "TFSERVE_ALLOW_UNSAFE_OPS=1"


class Finding(NamedTuple):
    """An operation that can reach outside the model: its type, its name, the function it is in, and what it does."""

    operation: str
    node: str
    function: str
    what: str

    def __str__(self) -> str:
        inside = f" in function {self.function!r}" if self.function else ""
        return f"{self.operation} ({self.node!r}{inside}) {self.what}"


class UnsafeOperations(Invalid):
    """{path} was not loaded: {operations}. Such operations are refused, because a model could read or change what \
does not belong to it. Export the model without them, or, if you trust its author, start the server with \
{setting} (allow_unsafe_ops)."""

    def __init__(self, path: Path, findings: Sequence[Finding]) -> None:
        super().__init__(path=str(path), operations=listed(findings), setting=SETTING)


def listed(findings: Sequence[Finding]) -> str:
    """The findings in one line, each once."""
    each = list(dict.fromkeys(map(str, findings)))
    more = f"; and {len(each) - MAX_LISTED} more" if len(each) > MAX_LISTED else ""
    return "; ".join(each[:MAX_LISTED]) + more


def remark(findings: Sequence[Finding]) -> str:
    """For users of a model whose unsafe operations the operator allows."""
    return f"it has unsafe operations, which this server allows: {listed(findings)}"
