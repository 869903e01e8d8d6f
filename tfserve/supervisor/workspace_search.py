"""Selects workspaces for lists: by name, by status, and those that something happens in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from tfserve.ipc.messages import FindWorkspaces, FoundWorkspaces
from tfserve.supervisor.models.announcements import VERSION_MARK
from tfserve.supervisor.workspace import Workspace


def find(workspaces: Iterable[Workspace], request: FindWorkspaces, *, on: bool) -> FoundWorkspaces:
    """Only those on the page are described, because that reads the memory of their processes."""
    text = request.text.casefold()
    is_listed = _has_model if request.with_model else _is_no_further_version
    named = [each for each in workspaces if text in each.name.casefold() and is_listed(each)]
    matching = [each for each in named if request.status in ("", each.status)]
    matching.sort(key=lambda each: each.name.casefold())
    offset = min(request.offset, max(0, len(matching) - 1) // request.limit * request.limit)
    return FoundWorkspaces(
        on=on,
        total=len(matching),
        counts=dict(Counter(each.status for each in named)),
        workspaces=[each.describe() for each in matching[offset : offset + request.limit]],
    )


def active(workspaces: Iterable[Workspace], limit: int | None) -> list[Workspace]:
    """At most `limit` workspaces with jobs, a model or a problem; without a limit, all workspaces."""
    return list(workspaces) if limit is None else list(islice(filter(_is_active, workspaces), limit))


def _is_active(workspace: Workspace) -> bool:
    dispatcher = workspace.dispatcher
    has_work = bool(dispatcher.running or dispatcher.waiting)
    return has_work or _has_model(workspace) or dispatcher.given_up_reason is not None


def _has_model(workspace: Workspace) -> bool:
    return workspace.model.replica_set.active is not None or bool(workspace.model.last_failure)


def _is_no_further_version(workspace: Workspace) -> bool:
    return VERSION_MARK not in workspace.name
