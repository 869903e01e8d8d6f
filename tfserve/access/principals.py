"""Principals and scopes: the sender of the current request, and what it may do and see."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from tfserve.errors import Forbidden


class Scope(StrEnum):
    """What a token allows. An endpoint requires one scope."""

    PREDICT = "predict"
    """Predictions, and reading the workspaces."""
    SUBMIT = "submit"
    """Jobs, deployments and files. Includes `PREDICT`."""
    TRAIN = "train"
    """Training tasks."""
    UPLOAD = "upload"
    """Uploads. Not a scope of its own: `SUBMIT` and `TRAIN` include it."""
    ADMIN = "admin"
    """Everything, including tokens and the server itself."""


_INCLUDED = {
    Scope.ADMIN: frozenset(Scope),
    Scope.SUBMIT: frozenset({Scope.PREDICT, Scope.UPLOAD}),
    Scope.TRAIN: frozenset({Scope.UPLOAD}),
}
ASSIGNABLE = (Scope.PREDICT, Scope.SUBMIT, Scope.TRAIN, Scope.ADMIN)
"""The scopes that tokens are given."""


# Where `Scope` means an ASGI scope.
PREDICT, SUBMIT, TRAIN = Scope.PREDICT, Scope.SUBMIT, Scope.TRAIN


class ScopeRequired(Forbidden):
    """This requires a token with the scope {scope!r}; {name!r} has {given}."""


class WorkspaceRequired(Forbidden):
    """The token {name!r} is restricted to some workspaces. Name one of them: {workspaces}."""


class UnrestrictedRequired(Forbidden):
    """{what} all workspaces, but the token {name!r} is restricted to {workspaces}. \
Use a token for all workspaces: tfserve token create NAME --scope predict"""


def expanded(scopes: Iterable[str]) -> frozenset[Scope]:
    """The scopes with those that they include. Raises `ValueError`."""
    given = frozenset(map(Scope, scopes))
    return given.union(*(_INCLUDED.get(scope, ()) for scope in given))


@dataclass(frozen=True, slots=True)
class Principal:
    """The sender of a request."""

    name: str
    owner: str
    """Recorded with the trainings and uploads that it creates. Unique, and stays the same when a token is rotated."""
    scopes: frozenset[Scope]
    workspaces: frozenset[str] | None = None
    """The only workspaces that exist for it; None: all."""

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises `ScopeRequired`."""
        if scope not in self.scopes:
            given = ", ".join(sorted(self.scopes.intersection(ASSIGNABLE))) or "none"
            raise ScopeRequired(scope=str(scope), name=self.name, given=given)

    def require_all_workspaces(self) -> None:
        """For requests that concern no workspace in particular. Raises `WorkspaceRequired`."""
        if self.workspaces is not None:
            raise WorkspaceRequired(name=self.name, workspaces=", ".join(sorted(self.workspaces)) or "none")

    def require_unrestricted(self, what: str) -> None:
        """For what concerns all workspaces and can't be requested of some. Raises `UnrestrictedRequired`."""
        if self.workspaces is not None:
            shown = ", ".join(sorted(self.workspaces)) or "none"
            raise UnrestrictedRequired(what=what, name=self.name, workspaces=shown)

    def sees_workspace(self, name: str) -> bool:
        """A further version of a declared model has a workspace of its own, `<model>@<version>`."""
        return self.workspaces is None or name in self.workspaces or name.partition("@")[0] in self.workspaces

    def visible(self, names: Iterable[str]) -> list[str]:
        """The workspaces among `names` that exist for this principal, in the same order."""
        return [name for name in names if self.sees_workspace(name)]

    def sees_owned_by(self, owner: str) -> bool:
        """What was created without authentication has no owner, so every principal sees it."""
        return owner in ("", self.owner) or self.is_admin


EVERYBODY = Principal("everybody", "", frozenset(Scope))
"""Every sender while authentication is off, and the server itself."""
ANONYMOUS = Principal("anonymous", "anonymous", frozenset(), frozenset())
"""A sender without credentials, for pages that let people log in."""

PRINCIPAL: ContextVar[Principal] = ContextVar("principal", default=EVERYBODY)
"""The sender of the current request. The edges of the web process set it before anything else sees the request."""
ADDRESS: ContextVar[str] = ContextVar("address", default="")
"""The network address of that sender, for the audit log."""
