"""Bodies that go to the disk piece by piece count for a token's limit with what is in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tfserve.access import secrets
from tfserve.config import Settings
from tfserve.errors import Overloaded
from tfserve.ipc.messages import AccessRules, TokenDigest, TokenRule
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authentication import Authentication
from tfserve.web.access.authenticator import Authenticator
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.http.body_stream import MAX_HELD_BYTES, held_bytes

GIB = 2**30


def scope(path: str, length: int) -> dict[str, Any]:
    headers = [(b"x-api-key", b"secret"), (b"content-length", str(length).encode())]
    return {
        "type": "http", "method": "PUT", "path": path, "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1), "extensions": {},
    }  # fmt: skip


@pytest.mark.usefixtures("django_settings")
def test_every_endpoint_that_takes_a_file_as_its_body_is_known() -> None:
    from tfserve.web.api.endpoint import BINARY
    from tfserve.web.api.uploads import endpoints, workspace_files

    found = [each for each in (*endpoints.ENDPOINTS, *workspace_files.ENDPOINTS) if BINARY in each.accepts.values()]
    assert len(found) == 3
    for each in found:
        assert held_bytes(scope(each.path, GIB), GIB) == MAX_HELD_BYTES


@pytest.mark.parametrize(
    ("path", "length", "held"),
    [
        ("/upload/", 100, 100), ("/upload/", None, None), ("/v2/models/upload/infer", GIB, GIB), ("/tasks/", GIB, GIB),
        ("/workspaces/w/files/a/b", GIB, MAX_HELD_BYTES), ("/workspaces/w", GIB, GIB),
    ],
)  # fmt: skip
def test_other_bodies_count_with_their_length(path: str, length: int | None, held: int | None) -> None:
    assert held_bytes(scope(path, 0), length) == held


@pytest.mark.parametrize(("path", "is_refused"), [("/upload/", False), ("/v2/models/m/infer", True)])
def test_requests_next_to_a_large_upload_are_not_refused(tmp_path: Path, path: str, is_refused: bool) -> None:
    limits = TokenLimits(Settings(token_bytes_in_flight=512 * 2**20))
    authenticator = Authenticator(lambda _: None, AuditLog(tmp_path / "audit.jsonl"))
    digests = [TokenDigest(secrets.digest(b"secret"))]
    authenticator.apply(AccessRules(True, [TokenRule(1, "t", ["predict"], None, digests)]))
    depth = 0

    async def app(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth == 1:
            await checked(scope(path, GIB), receive, send)  # while the first one is in progress
            await checked(scope("/v2/models/m/infer", 20_000), receive, send)

    async def receive() -> Any:
        raise AssertionError

    async def send(_: Any) -> None:
        raise AssertionError

    async def session_of(_: Any) -> None:
        raise AssertionError

    checked = Authentication(app, authenticator, limits, session_of, app)
    first = checked(scope(path, GIB), receive, send)
    if is_refused:
        with pytest.raises(Overloaded, match="token_bytes_in_flight"):
            asyncio.run(_awaited(first))
    else:
        asyncio.run(_awaited(first))
        assert depth == 3


async def _awaited(call: Any) -> None:
    await call
