"""A folder of the head that a worker on a node uses too: both may change it, and see what the other one has changed."""

from __future__ import annotations

import logging
from pathlib import Path

from tfserve.cluster.content.mirror import Listing, last_writers
from tfserve.cluster.content.scan import scan, without
from tfserve.cluster.content.threads import in_thread
from tfserve.cluster.content.trees import by_path
from tfserve.errors import Conflict, NotFound
from tfserve.ipc.messages import ContentEntry
from tfserve.supervisor.cluster.files import WorkerFiles
from tfserve.supervisor.cluster.shares import INCOMPLETE

log = logging.getLogger(__name__)

ATTEMPTS = 3


class SharedFolder:
    """`synchronise` makes both ends equal. Where both have changed a file since the last time, the later one counts."""

    def __init__(self, files: WorkerFiles, folder: Path, name: str, ignored: tuple[str, ...] = ()) -> None:
        self.on_node = ""
        self._files = files
        self._folder = folder
        self._name = name
        self._ignored = (*INCOMPLETE, *ignored)
        self._base: Listing = {}

    async def open(self) -> str:
        """Makes the node's folder like the head's, and returns its path there."""
        self.on_node = await self._files.open_mirror(self._name)
        await self.synchronise()
        return self.on_node

    async def synchronise(self) -> None:
        """A file that a process keeps changing meanwhile is left for the next time."""
        for _ in range(ATTEMPTS):
            try:
                await self._synchronise()
            except (Conflict, NotFound, FileNotFoundError) as error:
                problem = error
            else:
                return
        log.warning("%s is not the same on its node yet: %s", self._folder, problem)

    async def _synchronise(self) -> None:
        found = await in_thread(
            scan, self._folder, self._files.head.digests, paths=("",) if self._folder.is_dir() else (),
            roots=[self._folder], includes=without(*self._ignored), with_times=True,
        )  # fmt: skip
        ours = by_path(each.entry for each in found)
        theirs = by_path(await self._files.list_mirror(self._name, self._ignored))
        here, there = last_writers(self._base, ours, theirs)
        if here:
            await self._files.bring_back(self._folder, here)
        if there:
            await self._files.change_mirror(self._name, there, found)
        # Also when there is nothing to do: both sides may have made the same change.
        self._base = _merged(ours, here.put, here.remove)


def _merged(ours: Listing, put: list[ContentEntry], remove: list[str]) -> Listing:
    gone = set(remove)
    return {path: each for path, each in ours.items() if path not in gone} | by_path(put)
