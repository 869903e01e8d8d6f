"""Shows that the rows of a batch don't affect each other, by a walk through a TensorFlow graph.

Comparing batches with single requests finds rows that are mixed for the values at hand. This finds the operations that
can mix them for any values: a mean over the batch, a condition that depends on all rows, a sort, a batch
normalization in training mode. Whatever is not shown to keep rows apart counts as mixing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tfserve.runtimes.interface import Runtime


@runtime_checkable
class FollowsRows(Protocol):
    """A runtime that can follow the rows of a batch through its model. For others, batches are only compared."""

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        """Why one of these targets may depend on several rows of the inputs; empty if none does."""


def why_mixed(runtime: Runtime, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
    """The same for any runtime; empty if it does not know."""
    return runtime.why_mixed(inputs, outputs, signature) if isinstance(runtime, FollowsRows) else ""
