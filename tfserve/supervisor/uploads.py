"""Removes uploads: on request, or when they have been unused for long."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from tfserve.config import Settings
from tfserve.db import running_time, upload_uses
from tfserve.errors import Conflict, OutOfSpace, TFserveError
from tfserve.supervisor.jobs.journal import Journal
from tfserve.uploads.store import Upload, Uploads

PRUNE_EVERY_S = 3600.0
UNUSED_SINCE = "unused_since"


class UploadInUse(Conflict):
    """Upload {id} is used by {user}, so it can't be deleted."""


class UploadRetention:
    """Knows from the database which uploads are in use."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._uploads = Uploads(settings.uploads_path)

    def begin(self) -> None:
        """Before web processes start: removes what killed ones have left."""
        with contextlib.suppress(OSError):  # a full disk does not keep the server from starting
            self._uploads.clean_up()
        for folder in (self._settings.data_path / "workspaces").glob("*/incoming"):
            shutil.rmtree(folder, ignore_errors=True)

    async def delete(self, id_: str) -> None:
        """Raises `NoSuchUpload`, `UploadInUse`, `UploadBusy`."""
        upload = await asyncio.to_thread(self._uploads.find, id_, None)
        uses = await self._journal.change(upload_uses.uses)
        if (user := uses.get(id_)) is not None:
            raise UploadInUse(id=id_, user=user)
        await _on_disk(lambda: self._remove(upload))

    async def prune(self) -> None:
        """Removes uploads that were not used for `upload_days` of running time, and what killed processes left."""
        in_use = set(await self._journal.change(upload_uses.uses)) | await self._journal.change(upload_uses.kept)
        await _on_disk(lambda: self._prune(in_use))

    async def prune_regularly(self) -> None:
        """At the start, and once an hour."""
        while True:
            with contextlib.suppress(TFserveError):  # the next run does it
                await self.prune()
            await asyncio.sleep(PRUNE_EVERY_S)

    def _prune(self, in_use: set[str]) -> None:
        for upload in self._uploads:
            with contextlib.suppress(TFserveError), upload.locked():
                if upload.record.id in in_use:
                    upload.touch()
                elif upload.is_abandoned or self._is_old(upload):
                    self._uploads.remove(upload.folder)

    def _is_old(self, upload: Upload) -> bool:
        """Whether it has been unused for long. The first time that it is found unused, the time begins."""
        now_s = running_time.now_s()
        since_s = _read(upload.folder / UNUSED_SINCE)
        if since_s is None or since_s > now_s:
            (upload.folder / UNUSED_SINCE).write_text(str(now_s))
            since_s = now_s
        return now_s - since_s >= timedelta(days=self._settings.upload_days).total_seconds()

    def _remove(self, upload: Upload) -> None:
        with upload.locked():
            self._uploads.remove(upload.folder)


async def _on_disk(work: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(work)
    except OSError as error:
        raise OutOfSpace(cause=str(error)) from error


def _read(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None
