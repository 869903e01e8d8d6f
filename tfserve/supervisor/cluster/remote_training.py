"""A training on a node: its checkpoints return while it runs, and its result when it is complete.

So it continues elsewhere when its node dies. A file counts only when it is whole on the head. New files arrive in the
order in which a checkpoint needs them, and old ones are removed only after newer ones have arrived in their folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tfserve.cluster.content.mirror import Changes, Listing, changes
from tfserve.cluster.content.scan import scan, without
from tfserve.cluster.content.threads import in_thread
from tfserve.cluster.content.trees import by_path
from tfserve.errors import OutOfSpace, TFserveError
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import ContentEntry, JobState, Train, TrainingEnded
from tfserve.supervisor.cluster import shares
from tfserve.supervisor.cluster.files import Send, WorkerFiles, asked
from tfserve.supervisor.cluster.path_map import PathMap
from tfserve.training import atomic_files
from tfserve.training.dataset.project_folders import METRICS_FILE

log = logging.getLogger(__name__)

TASK, RESULT, TIMES = "task", "result", "timings"
NOT_KEPT = (*shares.INCOMPLETE, "temporary", "*.npy")
"""In the work folder: temporary files, and numbers that another node computes again."""
CHECKPOINT = "checkpoint-"
PAUSE_S = 1.0
"""At least this long between two looks at the work folder, whose progress file changes all the time."""
LAST_LOOK_S = 10.0
"""What a worker has left when it died on a node that lives."""


class RemoteTraining:
    def __init__(self, files: WorkerFiles, request: Train) -> None:
        self._files = files
        self._request = request
        self._task_folder = Path(request.findings).parent
        self._work = Path(request.work_folder)
        self._result = Path(request.folder)
        self._path_map = PathMap()
        self._base: Listing = {}
        self._changed = asyncio.Event()

    async def run(self, send: Send) -> TrainingEnded:
        if self._files.head.is_shared(self._task_folder) and self._files.head.is_shared(self._request.project_dir):
            times = await self._files.open_mirror(TIMES)
            return await asked(self._path_map, send, replace(self._request, timings=f"{times}/times.json"))
        local = await self._prepare()
        await self._files.watch_mirror(TASK, self._changed.set)
        following = asyncio.get_running_loop().create_task(self._follow())
        try:
            response: TrainingEnded = await asked(self._path_map, send, local)
        except ConnectionLost:
            with contextlib.suppress(TimeoutError, ConnectionLost, TFserveError, OSError):
                async with asyncio.timeout(LAST_LOOK_S):
                    await _stopped(following)
                    await self._bring_back()
            raise
        finally:
            await _stopped(following)
        return await self._ended(response)

    # --- before

    async def _prepare(self) -> Train:
        """The request with the paths on the node, where the files are now."""
        request, files, path_map = self._request, self._files, self._path_map
        await files.provide(path_map, shares.of_project, request.project_dir, request.parameters)
        await files.provide_weights(path_map, request.parameters)
        on_node = await files.open_mirror(TASK)
        path_map.add(str(self._task_folder), on_node)
        await self._send_task()
        results = await files.open_mirror(RESULT)
        path_map.add(str(self._result.parent), results)
        await self._send_finished()
        times = await files.open_mirror(TIMES)
        return replace(
            request, project_dir=path_map.to_node(request.project_dir), findings=path_map.to_node(request.findings),
            work_folder=path_map.to_node(request.work_folder), folder=f"{results}/{self._result.name}",
            timings=f"{times}/times.json" if request.timings else "", local_paths=path_map.on_node,
        )  # fmt: skip

    async def _send_task(self) -> None:
        """The findings, what was unpacked, and the checkpoints of earlier attempts."""
        paths = [self._request.findings, str(self._task_folder / "derived"), str(self._work)]
        relative = [str(Path(path).relative_to(self._task_folder)) for path in paths]
        found = await in_thread(
            scan, self._task_folder, self._files.head.digests, paths=relative, includes=without(*NOT_KEPT)
        )
        self._base = by_path(each.entry for each in found if self._is_kept(each.entry))
        await self._files.change_mirror(TASK, Changes([each.entry for each in found], []), found)

    async def _send_finished(self) -> None:
        """An attempt that was complete is not repeated: its figures are enough to know that."""
        if not self._result.is_dir():
            return
        figures = f"{self._result.name}/{METRICS_FILE}"
        found = await in_thread(scan, self._result.parent, self._files.head.digests, paths=(figures,))
        await self._files.change_mirror(RESULT, Changes([each.entry for each in found], []), found)

    # --- while it runs

    async def _follow(self) -> None:
        """Brings back each checkpoint when it is complete on the node."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._bring_back()
            except ConnectionLost:
                return
            except (TFserveError, OSError) as error:  # a file that changed again, or a full disk
                log.warning("a checkpoint of task %s could not be copied yet: %s", self._request.task_id, error)
            await asyncio.sleep(PAUSE_S)

    async def _bring_back(self) -> None:
        listed = by_path(each for each in await self._files.list_mirror(TASK, NOT_KEPT) if self._is_kept(each))
        new = changes(self._base, listed)
        put = sorted(new.put, key=_order)
        if put:
            filled = {_folder_of(each.path) for each in put if each.is_file}
            remove = [path for path in new.remove if _folder_of(path) in filled]
            await self._files.bring_back(self._task_folder, Changes(put, remove))
            self._base = {path: each for path, each in self._base.items() if path not in remove} | by_path(put)

    def _is_kept(self, entry: ContentEntry) -> bool:
        return entry.path == self._work.name or entry.path.startswith(f"{self._work.name}/")

    # --- after

    async def _ended(self, response: TrainingEnded) -> TrainingEnded:
        if response.state != JobState.SUCCEEDED:
            with contextlib.suppress(TFserveError, OSError):
                await self._bring_back()
            return response
        try:
            await self._publish()
        except OSError as error:
            raise OutOfSpace(cause=f"the result can't be written to {self._result}: {error}") from error
        await in_thread(_remove, self._work, self._task_folder / "derived")
        return response

    async def _publish(self) -> None:
        """The result appears as a whole, as if it had been trained here."""
        umask = self._files.head.callers_umask
        await in_thread(atomic_files.make_folder, self._result.parent, umask)
        if self._result.exists():
            await in_thread(atomic_files.link_latest, self._result)
            return
        above, aside = f"{self._result.name}/", atomic_files.aside_of(self._result)
        listed = [each for each in await self._files.list_mirror(RESULT) if each.path.startswith(above)]
        await in_thread(_remove, aside)
        await self._files.bring_back(aside, Changes([_below(above, each) for each in listed], []))
        await in_thread(atomic_files.publish, aside, self._result, umask)


def _order(entry: ContentEntry) -> tuple[bool, str]:
    """A checkpoint comes last, since it refers to other files."""
    return Path(entry.path).name.startswith(CHECKPOINT), entry.path


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _below(folder: str, entry: ContentEntry) -> ContentEntry:
    return replace(entry, path=entry.path.removeprefix(folder))


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


async def _stopped(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
