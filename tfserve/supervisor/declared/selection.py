"""Selects the versions of a declared model to serve, from those that exist and can be loaded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tfserve.ipc.messages import MAX_SERVED_VERSIONS, DeclaredModel, NewestVersions
from tfserve.supervisor.declared.attempts import VersionVerdict
from tfserve.supervisor.declared.checks import default_version, fixed_versions
from tfserve.supervisor.declared.version_folders import VersionFolders
from tfserve.supervisor.models.announcements import workspace_of

Versions = dict[int | None, Path]
Judge = Callable[[int | None, Path], Awaitable[VersionVerdict]]


@dataclass(frozen=True)
class ServedVersion:
    """One version, and the workspace that serves it."""

    workspace: str
    version: int | None
    path: Path


async def select(declared: DeclaredModel, found: VersionFolders, judge: Judge) -> Versions | None:
    """The versions to serve, the newest first. None if files have to settle first.

    A version that can't be loaded is replaced by the next older one, unless it was declared by number.
    """
    selected: Versions = {}
    fixed, count = fixed_versions(declared), newest_count(declared)
    for version, path in newest_first(found):
        if version not in fixed and len(selected) >= count:
            continue
        verdict = await judge(version, path)
        if verdict is VersionVerdict.WAIT:
            return None
        if verdict is VersionVerdict.LOAD:
            selected[version] = path
    return selected


def newest_first(found: VersionFolders) -> Iterator[tuple[int | None, Path]]:
    return iter(sorted(found.versions.items(), key=lambda each: -1 if each[0] is None else each[0], reverse=True))


def newest_count(declared: DeclaredModel) -> int:
    """How many of the newest versions to serve, whatever their numbers."""
    match declared.versions:
        case NewestVersions(latest=count):
            return count
        case "all":
            return MAX_SERVED_VERSIONS
        case "latest":
            return 1
        case None:
            return 0 if declared.labels else 1
        case _:
            return 0


def targets(name: str, declared: DeclaredModel, selected: Versions) -> list[ServedVersion]:
    """The workspace of each version. The model's own one serves the default version, which comes last."""
    default = default_version(declared)
    if default is None and selected:
        default = next(iter(selected))
    further = [
        ServedVersion(workspace_of(name, version), version, path)
        for version, path in selected.items()
        if version is not None and version != default
    ]
    own = [ServedVersion(name, default, selected[default])] if default in selected else []
    return [*further, *own]
