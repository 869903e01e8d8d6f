"""Workspaces, their variables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfserve_client.core import Core, given, in_path
from tfserve_client.downloads import read_file, save_file
from tfserve_client.flows import Flow, Request, operation


class Workspaces(Core):
    """A workspace is an isolated Python session with a job queue, variables, a folder and at most one model."""

    @operation
    def create_workspace(
        self, name: str | None = None, *, type: Literal[0, 1] = 0, limits: Mapping[str, Any] | None = None,  # noqa: A002
        resources: Mapping[str, Any] | None = None,
    ) -> Flow[str]:  # fmt: skip
        """Create a workspace, and return its name (random when none is given). Type 0 is a process, type 1 a thread.

        `limits` are below those of the server, for example {"memory": "2GiB"}. `resources` is what its process needs,
        for example {"gpu": 1} or {"node": "big"}.
        """
        return self._post("/create_workspace/", given(name=name, type=type, limits=limits, resources=resources))

    @operation
    def destroy_workspace(self, name: str | None = None) -> Flow[bool]:
        """Destroy one workspace, or all of them. True if something was destroyed."""
        return self._post("/destroy_workspace/", given(name=name), idempotent=True)

    @operation
    def restart_workspace(self, name: str) -> Flow[bool]:
        """Restart a workspace in a fresh process. Queued jobs and the deployment are kept, variables are lost."""
        return self._post("/restart_workspace/", {"name": name})

    @operation
    def get_workspace(self) -> Flow[list[str]]:
        """The names of all workspaces."""
        return self._post("/get_workspace/", idempotent=True)

    @operation
    def get_status(self, name: str) -> Flow[dict[str, Any]]:
        """`STATUS`, `CUR_JOB_NUM`, `FIN_JOB_NUM`, `JOB_COUNT`, `folder`, `deployment` and more."""
        return self._post("/get_status/", {"name": name}, idempotent=True)

    @operation
    def get_variable(self, name: str, variable: str | Sequence[str] | None = None) -> Flow[dict[str, Any]]:
        """Variables by name (default: all). Names that are not set map to None."""
        return self._post("/get_variable/", given(name=name, variable=variable), idempotent=True)

    # --- files

    @operation
    def put_file(self, workspace: str, path: str, source: bytes | str | Path) -> Flow[dict[str, Any]]:
        """Store bytes, or the local file at a path, as a file of the workspace: {path, size, sha256}."""
        content = source if isinstance(source, bytes) else Path(source)
        request = Request("PUT", _file(workspace, path), content=content, wait_s=None, idempotent=True)
        return self._result(request)

    @operation
    def get_file(self, workspace: str, path: str) -> Flow[bytes]:
        """The content of a file of the workspace."""
        return read_file(self, _file(workspace, path))

    @operation
    def download_file(self, workspace: str, path: str, target: str | Path) -> Flow[int]:
        """Write a file of the workspace to the local path `target`. Returns its size in bytes."""
        return save_file(self, _file(workspace, path), Path(target))

    @operation
    def list_files(
        self, workspace: str, path: str = "", *, limit: int | None = None, offset: int | None = None
    ) -> Flow[dict[str, Any]]:
        """One page of the entries of a folder: {path, entries: [{name, type, size, modified_at}], total}."""
        return self._get(_file(workspace, path), limit=limit, offset=offset)

    @operation
    def delete_file(self, workspace: str, path: str, *, recursive: bool = False) -> Flow[bool]:
        """Delete a file, or with `recursive` a folder with all that is in it."""
        request = Request("DELETE", _file(workspace, path), {"recursive": str(recursive).lower()})
        return self._result(request)


def _file(workspace: str, path: str) -> str:
    return f"/workspaces/{in_path(workspace)}/files/{in_path(path, safe='/')}"
