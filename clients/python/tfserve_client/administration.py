"""The server itself: status, health, metrics, access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from tfserve_client.core import Core, given, in_path
from tfserve_client.flows import Flow, Request, operation


class Administration(Core):
    """The status of the server, and what administrators do."""

    @operation
    def is_ready(self) -> Flow[bool]:
        """Whether the server is ready for work. Also false if nothing listens at its address."""
        return _is_healthy("/v2/health/ready")

    @operation
    def is_live(self) -> Flow[bool]:
        """Whether the server runs, perhaps still starting."""
        return _is_healthy("/v2/health/live")

    @operation
    def server(self, since: int | None = None, *, wait: int | None = None) -> Flow[dict[str, Any]]:
        """The live state of the server. With `since`, waits up to `wait` seconds until `revision` differs from it."""
        return self._get("/server/", wait_s=wait or 0, since=since, wait=wait)

    @operation
    def nodes(self) -> Flow[list[dict[str, Any]]]:
        """The machines that run workers, with resources, state and what runs there: the head first, gone ones last."""
        found = yield from self._get("/server/")
        return list(found.get("nodes", ()))

    @operation
    def about(self) -> Flow[dict[str, Any]]:
        """Name, version and v2 extensions of the server."""
        return self._get("/v2")

    @operation
    def metrics(self) -> Flow[str]:
        """The metrics in the text format of Prometheus."""
        response = yield from self._send(Request("GET", "/metrics", idempotent=True))
        return str(response.text)

    @operation
    def guide(self) -> Flow[dict[str, Any]]:
        """The API guide: purpose, request fields and result of each endpoint, by path."""
        return self._post("/", idempotent=True)

    @operation
    def openapi(self) -> Flow[dict[str, Any]]:
        """The OpenAPI document of the server."""
        return self._get("/openapi.json")

    @operation
    def json_test(self, value: Any) -> Flow[Any]:
        """The same value, after a round trip through JSON."""
        return self._post("/json_test/", value, idempotent=True)

    @operation
    def create(self) -> Flow[bool]:
        """Turn the workspace service on. True if it was off."""
        return self._post("/create/", idempotent=True)

    @operation
    def destroy(self) -> Flow[bool]:
        """Turn the workspace service off: every workspace is destroyed. True if it was on."""
        return self._post("/destroy/", idempotent=True)

    # --- access

    @operation
    def create_token(
        self, name: str, scopes: Sequence[str], *, workspaces: Sequence[str] | None = None, expires: str | None = None
    ) -> Flow[dict[str, Any]]:
        """Create an access token: {token, info}. `token` is shown only now. `expires` is a time such as 90d or 12h."""
        return self._post("/tokens/", given(name=name, scopes=scopes, workspaces=workspaces, expires=expires))

    @operation
    def list_tokens(self) -> Flow[list[dict[str, Any]]]:
        """The access tokens, newest first, without their secrets."""
        return self._get("/tokens/")

    @operation
    def rotate_token(self, name: str, *, grace: str | None = None) -> Flow[dict[str, Any]]:
        """Give a token a new secret: {token, info}. The old one stays valid for `grace` (24h; 0s: not at all)."""
        return self._post(f"/tokens/{in_path(name)}/rotate", given(grace=grace))

    @operation
    def revoke_token(self, name: str) -> Flow[dict[str, Any]]:
        """Revoke a token at once."""
        return self._post(f"/tokens/{in_path(name)}/revoke")

    @operation
    def audit(self, limit: int | None = None) -> Flow[list[dict[str, Any]]]:
        """The last entries of the audit log, newest first."""
        return self._get("/audit/", limit=limit)

    @operation
    def make_password_link(self) -> Flow[str]:
        """The path of a page that sets the password of the pages, once, within a day."""
        return self._post("/password_link/")


def _is_healthy(path: str) -> Flow[bool]:
    """One attempt, because a failure is a result too."""
    try:
        response: httpx.Response = yield Request("GET", path)
    except httpx.TransportError:
        return False
    return response.is_success
