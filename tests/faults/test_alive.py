"""The check after each fault, which must also work where requests need a token."""

from __future__ import annotations

from pathlib import Path

from faults import alive
from tests.acceptance.conftest import Server


def test_a_server_that_requires_tokens_is_found_alive(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", environment={"TFSERVE_AUTH": "on"})
    try:
        assert server.http.get("/jobs/").status_code == 401
        assert alive.check(server, keep=False) == "alive and predicting"
    finally:
        server.close()
