"""The names of workspaces in requests: valid, and of workspaces that the sender may know of."""

from __future__ import annotations

from tfserve import workspace_names
from tfserve.access.principals import PRINCIPAL
from tfserve.errors import NoSuchWorkspace


def workspace_name(name: str) -> str:
    """The name in Unicode form NFC. Raises `BadName`, `NoSuchWorkspace`."""
    return _visible(workspace_names.workspace_name(name))


def new_workspace_name(name: str) -> str:
    """The name of a workspace to be created. Raises `BadName`, `BadNewName`, `NoSuchWorkspace`."""
    return _visible(workspace_names.new_workspace_name(name))


def _visible(name: str) -> str:
    principal = PRINCIPAL.get()
    if not principal.sees_workspace(name):
        raise NoSuchWorkspace(name, principal.workspaces or ())
    return name
