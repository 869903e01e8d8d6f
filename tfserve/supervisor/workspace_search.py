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
    named = [each for each in workspaces if VERSION_MARK not in each.name and text in each.name.casefold()]
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
    dispatcher, model = workspace.dispatcher, workspace.model
    has_work = bool(dispatcher.running or dispatcher.waiting)
    has_model = model.replica_set.active is not None or bool(model.last_failure)
    return has_work or has_model or dispatcher.given_up_reason is not None
