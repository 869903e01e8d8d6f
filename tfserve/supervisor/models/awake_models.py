"""Makes room for a model's new process: the least recently used models sleep before memory is short."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from tfserve import available_memory
from tfserve.config import Settings

if TYPE_CHECKING:
    from tfserve.supervisor.models.sleep import Sleep

T = TypeVar("T")


class AwakeModels:
    """The models of all workspaces that have processes, or may get some."""

    def __init__(self, settings: Settings, free_bytes: Callable[[], int] = available_memory.of_process) -> None:
        self._max = settings.max_awake_models
        # the memory of this machine only counts where processes run on it
        self._reserve = settings.min_free_memory_bytes if settings.head_runs_workers else 0
        self._free_bytes = free_bytes
        self._sets: list[Sleep] = []
        #: what the processes that load now may need
        self._loading: dict[object, int] = {}
        self._choosing = asyncio.Lock()

    def add(self, replica_set: Sleep) -> None:
        self._sets.append(replica_set)

    def remove(self, replica_set: Sleep) -> None:
        with contextlib.suppress(ValueError):
            self._sets.remove(replica_set)

    @contextlib.asynccontextmanager
    async def room(self, requester: Sleep, needed_bytes: int) -> AsyncIterator[None]:
        """Room for a process that loads meanwhile, as far as other models can make it."""
        load = object()
        self._loading[load] = needed_bytes
        try:
            await self.make_room(requester)
            yield
        finally:
            del self._loading[load]

    async def make_room(self, requester: Sleep, needed_bytes: int = 0) -> None:
        """Puts models to sleep, one by one, until there is room or no more of them may sleep."""
        async with self._choosing:  # one choice at a time: the next one sees the room that this one makes
            while self._is_full(requester) or self._is_short(needed_bytes):
                if not await self._put_one_to_sleep(requester):
                    return

    def _is_full(self, requester: Sleep) -> bool:
        others = sum(each.is_awake for each in self._sets if each is not requester)
        return 0 < self._max <= others

    def _is_short(self, needed_bytes: int) -> bool:
        needed_bytes += sum(self._loading.values())
        return bool(self._reserve) and self._free_bytes() < self._reserve + needed_bytes

    async def _put_one_to_sleep(self, requester: Sleep) -> bool:
        candidates = [each for each in self._sets if each is not requester and each.may_make_room]
        idle = await asyncio.gather(*(each.idle_s() for each in candidates))
        for each in least_recently_used_first(dict(zip(candidates, idle, strict=True))):
            if await each.make_room():
                return True
        return False


def least_recently_used_first(idle_s: Mapping[T, float]) -> list[T]:
    """The keys by how long they have been idle, the longest first."""
    return sorted(idle_s, key=lambda each: -idle_s[each])
