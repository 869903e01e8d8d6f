"""What waits for the model: requests that may be computed together, in groups, the most urgent first."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from tfserve.ipc.predictions import Answer, Ask, Refusal


class Asker(Protocol):
    """Where answers go. They are kept together until `flush`."""

    def answer(self, request_id: int, answer: Answer | Refusal) -> None: ...

    def flush(self) -> None: ...


Group = tuple[Hashable, ...]


@dataclass(slots=True, eq=False)
class Waiting:
    """One request. `rows` is how many examples it has, None when it can't share a batch.

    `prepared_ns` is how long it took to make its inputs ready, before it could wait for the model, and
    `prepared_bytes` how large they have become.
    """

    asker: Asker
    id: int
    ask: Ask
    rows: int | None
    group: Group
    arrived_ns: int
    prepared_ns: int = 0
    prepared_bytes: int = 0


class WaitingRoom:
    """A queue of groups. Within a group first come, first served; between groups the most urgent, then the oldest."""

    def __init__(self) -> None:
        self._groups: dict[Group, deque[Waiting]] = {}
        self._by_id: dict[tuple[int, int], Waiting] = {}
        #: the memory of all that was made ready
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
        """Forgets a request that has not begun."""
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
        """How many rows wait in the group; a request that can't share a batch counts as `alone`."""
        return sum(request.rows or alone for request in self._groups[group])

    def oldest_ns(self, group: Group) -> int:
        return self._groups[group][0].arrived_ns

    def take(self, group: Group, max_rows: int) -> list[Waiting]:
        """The first requests of a group, up to so many rows; at least one."""
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
