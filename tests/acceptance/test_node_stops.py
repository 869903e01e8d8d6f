"""A node that is stopped answers the requests that it has forwarded to the head."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.acceptance.test_node import Head, Node
from tests.protocols.grpc_port import free_port

pytestmark = pytest.mark.slow

DRAIN_S = 5
STOPS = "waiting for running work to end"


def test_what_ends_in_time_is_answered_and_the_rest_gets_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFSERVE_DRAIN_S", str(DRAIN_S))
    head = Head(tmp_path / "data", free_port(), auth="off")
    node = Node(tmp_path / "node", head.cluster_port, "--token", head.join_token).until_ready()

    def run(name: str, seconds: float) -> Future[httpx.Response]:
        head.call("/create_workspace/", name=name)
        job = {"name": name, "job": f"import time; time.sleep({seconds}); x = 1", "type": 1, "timeout": 60}
        return threads.submit(node.http.post, "/push_job/", json=job)

    try:
        with ThreadPoolExecutor() as threads:
            short, long = run("short", 2.0), run("long", 600.0)
            while any(head.call("/get_status/", name=name)["STATUS"] != "BUSY" for name in ("short", "long")):
                head.http.get("/server/", params={"wait": 1, "since": 0})
            node.process.terminate()
            node.until_logged(STOPS)
            assert short.result().json()["result"]["variable"]["x"] == 1
            answer = long.result()
            assert answer.status_code == 502
            assert "This node was stopped before the head" in answer.json()["error"]["message"], answer.text
            assert node.process.wait(30) == 0
            assert head.call("/get_status/", name="long")["STATUS"] == "BUSY", "the head has not lost anything"
    finally:
        node.close()
        head.close()
