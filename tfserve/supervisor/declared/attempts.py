"""Decides whether the files of a version can be loaded now: not while they are copied, nor again after a failure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.ipc.messages import DeclaredModel
from tfserve.supervisor.declared.version_folders import Fingerprint, check_complete, fingerprint
from tfserve.supervisor.models import model_files

SETTLE_S = 1.0
"""Files that have not changed for this long are not being copied."""


UNKNOWN = Fingerprint(0, 0.0)


class VersionVerdict(Enum):
    """What to do with a version."""

    LOAD = "its files are complete"
    WAIT = "its files have changed a moment ago"
    COPYING = "its files are being copied"
    LEAVE = "its files are incomplete, or could not be loaded"


@dataclass
class _Attempt:
    fingerprint: Fingerprint
    #: when this state of the files was first seen
    since: float
    #: whether these files were not known before
    is_new: bool
    #: the declaration with which loading failed, and why
    declared: DeclaredModel | None = None
    failure: str = ""

    @property
    def is_settled(self) -> bool:
        unchanged_s = max(time.time() - self.fingerprint.newest, time.monotonic() - self.since)
        return unchanged_s >= SETTLE_S


class Attempts:
    """What was found out about the files of each version of one model."""

    def __init__(self) -> None:
        self._by_path: dict[Path, _Attempt] = {}

    async def judge(self, path: Path, declared: DeclaredModel) -> VersionVerdict:
        """Raises `Invalid` if the files can't be read."""
        found = await model_files.in_own_thread(lambda: fingerprint(path), str(path))
        attempt = self._by_path.get(path)
        if attempt is None or attempt.fingerprint != found:
            attempt = _Attempt(found, since=time.monotonic(), is_new=attempt is None)
            self._by_path[path] = attempt
        if not attempt.is_settled:
            return VersionVerdict.WAIT if attempt.is_new else VersionVerdict.COPYING
        if self.has_failed(path, declared):
            return VersionVerdict.LEAVE
        try:
            located = await model_files.locate(str(path), None, declared.options)
            await model_files.in_own_thread(lambda: check_complete(located), str(path))
        except Invalid as error:
            self.failed(path, declared, error.message)
            return VersionVerdict.LEAVE
        return VersionVerdict.LOAD

    def failed(self, path: Path, declared: DeclaredModel, reason: str) -> None:
        """It is not loaded again before its files or its declaration change."""
        attempt = self._by_path.setdefault(path, _Attempt(UNKNOWN, since=time.monotonic(), is_new=True))
        attempt.declared, attempt.failure = declared, reason

    def has_failed(self, path: Path, declared: DeclaredModel) -> bool:
        attempt = self._by_path.get(path)
        return attempt is not None and bool(attempt.failure) and attempt.declared == declared

    def reason(self, path: Path) -> str:
        """Why a version was not loaded."""
        attempt = self._by_path.get(path)
        if attempt is None:
            return ""
        return attempt.failure or ("" if attempt.is_settled else "its files are being copied")

    def forget(self) -> None:
        """Everything is tried again."""
        self._by_path.clear()
