"""The pages of workspaces: the list, and one workspace with its queue, console, variables and files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tfserve.db import reads
from tfserve.db.models import Workspace
from tfserve.errors import NotFound, TFserveError
from tfserve.ipc.messages import FindWorkspaces, GetWorkspace
from tfserve.web.database_reads import read
from tfserve.web.http.disk_writer import on_disk
from tfserve.web.http.guarded_folder import FolderEntry, GuardedFolder
from tfserve.web.pages import job_rows, listing
from tfserve.web.pages.job_rows import JobRow
from tfserve.web.pages.listing import escaped_size
from tfserve.web.pages.rendering import PageRequest, gone, live_page, supervisor_of
from tfserve.web.pages.variable_rows import VariableRow, variable_rows

PER_PAGE = 40
STATES = {"": "All", "BUSY": "Busy", "IDLE": "Idle", "INITIAL": "Starting", "EXCEPT": "Failed"}
SHOWN_JOBS, VARIABLES_BYTES, FILES_BYTES = 8, 14_000, 13_000
"""With these, the page of a workspace is below 60 kB, whatever its names and values are."""


@csrf_exempt
@require_safe
async def workspaces(request: PageRequest) -> HttpResponse:
    """The list of workspaces by name, with search, states and paging."""
    query = request.GET
    offset = listing.number(query, "offset") or 0
    page = FindWorkspaces(text=listing.search_text(query), status=query.get("state", ""), offset=offset, limit=PER_PAGE)
    found = await supervisor_of(request).ask(page)
    context = {
        "found": found,
        "query": query,
        "states": listing.chips(query, "state", STATES, {"": sum(found.counts.values()), **found.counts}),
        "labels": STATES,
        "is_filtered": listing.is_filtered(query, ("q", "state")),
        "shown": listing.shown_range(query, "offset", PER_PAGE, found.total),
    }
    parts = [f"pages/workspaces/{each}.html" for each in ("filters", "chips", "list", "create")]
    return await live_page(request, section="workspaces", name="Workspaces", parts=parts, context=context)


@csrf_exempt
@require_safe
async def workspace(request: PageRequest, name: str) -> HttpResponse:
    """One workspace."""
    try:
        status = await supervisor_of(request).ask(GetWorkspace(name=name))
        records = await read(_records, name, status["FIN_JOB_NUM"])
    except NotFound as error:
        link = {"message": error.message, "href": "/pages/workspaces/", "label": "All workspaces"}
        return await gone(request, "part-status", link)
    query = request.GET
    files = await _files(Path(status["folder"]), query.get("folder", ""))
    variables = listing.fitting(query, "variables", records.variables, VARIABLES_BYTES, _variable_size)
    entries = listing.fitting(query, "files", files.entries, FILES_BYTES, _entry_size)
    context = {
        "workspace": status,
        "label": STATES[status["STATUS"]],
        "records": records,
        "variables": variables.rows,
        "variables_range": variables.range,
        "files": files,
        "entries": entries.rows,
        "files_range": entries.range,
        "name_in_url": quote(name, safe=""),
        "path_in_url": quote(files.path),
    }
    parts = [f"pages/workspaces/{each}.html" for each in ("status", "console", "jobs", "variables", "files", "details")]
    return await live_page(
        request,
        section="workspaces",
        name=name,
        parts=parts,
        context=context,
        scripts=("again", "console", "files"),
    )


# --- what the page of a workspace shows


@dataclass(frozen=True)
class Records:
    """What the database knows of a workspace."""

    queue: list[JobRow]
    recent: list[JobRow]
    variables: list[VariableRow]


@dataclass(frozen=True)
class FolderFiles:
    """A folder of a workspace. `path` ends with a slash, unless it is the workspace's folder itself."""

    path: str
    parent: str | None
    entries: list[FolderEntry]
    problem: str = ""


def _records(name: str, last_finished: int) -> Records:
    """Raises `NoSuchWorkspace`."""
    row: Workspace = reads.workspace(name)
    return Records(
        queue=job_rows.active_jobs([name], SHOWN_JOBS),
        recent=job_rows.recent_jobs(row.pk, last_finished, SHOWN_JOBS),
        variables=variable_rows(reads.snapshot(row), reads.variable_types(row)),
    )


async def _files(root: Path, folder: str) -> FolderFiles:
    path = folder.strip("/")
    parent = None if not path else path.rpartition("/")[0]
    try:
        entries = await on_disk(partial(GuardedFolder(root).entries, path))
    except TFserveError as error:
        return FolderFiles(path=f"{path}/", parent=parent, entries=[], problem=error.message)
    return FolderFiles(f"{path}/" if path else "", parent, entries)


def _variable_size(row: VariableRow) -> int:
    return 300 + 6 * escaped_size(row.name) + escaped_size(row.excerpt)


def _entry_size(entry: FolderEntry) -> int:
    return 450 + 3 * escaped_size(entry.name) + 3 * len(quote(entry.name))
