"""The model's queue: requests in groups that may share a batch, the most urgent first."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal


class Asker(Protocol):
    """Receives responses, which are buffered until `flush`."""

    def answer(self, request_id: int, answer: ComputeResult | Refusal) -> None: ...

    def flush(self) -> None: ...


Group = tuple[Hashable, ...]


@dataclass(slots=True, eq=False)
class Waiting:
    """One request. `rows` is how many examples it has, None when it can't share a batch.

    `prepared_ns` is how long its preprocessing took, before it was queued for the model, and
    `prepared_bytes` the size of the preprocessed inputs. `sample` is what came before that, if it is to be kept
    as a sample once the model has computed it.
    """

    asker: Asker
    id: int
    ask: ComputeRequest
    rows: int | None
    group: Group
    arrived_ns: int
    prepared_ns: int = 0
    prepared_bytes: int = 0
    sample: ComputeRequest | None = None


class RequestQueue:
    """A queue of groups. Within a group first come, first served; between groups the most urgent, then the oldest."""

    def __init__(self) -> None:
        self._groups: dict[Group, deque[Waiting]] = {}
        self._by_id: dict[tuple[int, int], Waiting] = {}
        #: the memory of all preprocessed requests
        self.prepared_bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def put(self, request: Waiting) -> None:
        group = self._groups.get(request.group)
        if group is None:
            group = self._groups[request.group] = deque()
        group.append(request)
        self.prepared_bytes += request.prepared_bytes
        self._by_id[id(request.asker), request.id] = request

    def drop(self, asker: Asker, request_id: int) -> None:
        """Drops a request that has not started."""
        request = self._by_id.pop((id(asker), request_id), None)
        if request is not None:
            group = self._groups[request.group]
            group.remove(request)
            self.prepared_bytes -= request.prepared_bytes
            if not group:
                del self._groups[request.group]

    def drop_all(self, asker: Asker) -> None:
        for request in [each for each in self._by_id.values() if each.asker is asker]:
            self.drop(asker, request.id)

    def next_group(self) -> Group | None:
        """The group that is to be computed next."""
        if len(self._groups) <= 1:
            return next(iter(self._groups), None)
        return min(self._groups, key=self._rank)

    def rows_if_shared(self, group: Group, alone: int) -> int:
        """The queued rows of the group; a request that can't share a batch counts as `alone`."""
        return sum([request.rows or alone for request in self._groups[group]])

    def oldest_ns(self, group: Group) -> int:
        return self._groups[group][0].arrived_ns

    def take(self, group: Group, max_rows: int) -> list[Waiting]:
        """The first requests of a group, up to a number of rows; at least one."""
        waiting, rows = self._groups[group], 0
        taken: list[Waiting] = []
        while waiting:
            rows += waiting[0].rows or max_rows
            if taken and rows > max_rows:
                break
            request = waiting.popleft()
            self.prepared_bytes -= request.prepared_bytes
            del self._by_id[id(request.asker), request.id]
            taken.append(request)
        if not waiting:
            del self._groups[group]
        return taken

    def _rank(self, group: Group) -> tuple[int, int]:
        first = self._groups[group][0]
        return first.ask.urgency, first.arrived_ns
