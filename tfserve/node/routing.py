"""Which requests a node answers itself: predictions, and what is known of the models. The head answers all others."""

from __future__ import annotations

from starlette.types import Scope

from tfserve.web.access.authentication import is_navigation
from tfserve.web.http.prefer import read_deferral

V1 = ("/v1/", "/V1/")
V2 = "/v2"
HEALTH = "/v2/health/"
REPOSITORY = "/v2/repository"
STATISTICS = "/stats"
CREDENTIALS = (b"authorization", b"x-api-key")


def is_local(scope: Scope, *, needs_token: bool) -> bool:
    """Whether the node answers an HTTP request.

    The head has what is recorded: jobs, to which deferred predictions belong, the sum of all statistics, and the
    sessions of people.
    """
    path: str = scope["path"]
    if path.startswith(HEALTH):
        return True
    if not (path.startswith(V1) or path == V2 or path.startswith(f"{V2}/")):
        return False
    if path.startswith(REPOSITORY) or (path.startswith(V2) and path.endswith(STATISTICS)):
        return False
    if scope["method"] == "POST" and read_deferral(scope["headers"]) is not None:
        return False
    return not needs_token or not _may_be_a_person(scope)


def _may_be_a_person(scope: Scope) -> bool:
    """Whether a request without a token has a session, or is to be answered with the form to log in."""
    names = {name for name, _ in scope["headers"]}
    return names.isdisjoint(CREDENTIALS) and (b"cookie" in names or is_navigation(scope))
