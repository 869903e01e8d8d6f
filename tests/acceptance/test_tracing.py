"""W3C Trace Context: in the logs, and with OpenTelemetry as spans that a collector receives."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.acceptance.conftest import Server

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector:
    """An OTLP collector over HTTP that keeps the spans it gets."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


PRINT = "import os; print(__traceparent__, os.environ.get('TRACEPARENT'))"


def printed(server: Server, name: str, headers: dict[str, str]) -> str:
    """What a script learns of the trace of its request."""
    body = {"name": name, "job": PRINT, "type": 1, "timeout": 60}
    return str(server.http.post("/push_job/", json=body, headers=headers).json()["result"]["stdout"])


def test_a_script_continues_the_trace_of_the_request_that_submitted_it(server: Server, workspace: str) -> None:
    given = HEADER["traceparent"]
    assert printed(server, workspace, HEADER) == f"{given} {given}\n"
    assert printed(server, workspace, {}) == "None None\n"
    assert printed(server, workspace, {"traceparent": "00-nonsense"}) == "None None\n"
    assert server.call("/get_variable/", name=workspace) == {"os": "<module 'os' (frozen)>"}
    thread = server.call("/create_workspace/", type=1)
    assert printed(server, thread, HEADER) == f"{given} None\n"
    server.call("/destroy_workspace/", name=thread)


def test_a_key_with_another_trace_is_the_same_job(server: Server, workspace: str) -> None:
    body = {"name": workspace, "job": "x = 1", "type": 1, "timeout": 60}
    headers = [{"Idempotency-Key": "once", **each} for each in (HEADER, {})]
    jobs = {server.http.post("/push_job/", json=body, headers=each).json()["result"]["id"] for each in headers}
    assert len(jobs) == 1


@pytest.mark.slow
def test_requests_are_spans_of_their_trace_and_their_logs_name_it(tmp_path: Path) -> None:
    collector = Collector()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    options = ("--tracing", "--access-log", str(tmp_path / "access.log"))
    server = Server(tmp_path / "data", *options, environment=environment)
    try:
        assert server.http.get("/v2", headers=HEADER).status_code == 200
        assert server.http.post("/create_workspace/", json={"name": "w"}, headers=HEADER).status_code == 200
        assert server.http.get("/v2/models/none", headers=HEADER).status_code == 404
        of_script = printed(server, "w", HEADER).split()[1].split("-")
        assert server.http.get("/v2/models", headers={"traceparent": "00-nonsense"}).status_code == 200
    finally:
        server.close()
        collector.close()
    spans = [
        span
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    own = [span for span in spans if span.trace_id.hex() == TRACE]
    assert len(own) == 4
    assert of_script[1] == TRACE
    assert of_script[2] in {span.span_id.hex() for span in own}, "the script is a child of the span of its request"
    assert {span.parent_span_id.hex() for span in own} == {PARENT}
    statuses = [each.value.int_value for span in own for each in span.attributes if each.key.endswith("status_code")]
    assert sorted(statuses) == [200, 200, 200, 404]
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    by_path = {line["path"]: line["trace_id"] for line in lines}
    assert by_path["/v2"] == by_path["/create_workspace/"] == TRACE
    assert by_path["/v2/models"] is None
    audit = [json.loads(line) for line in (server.data_dir / "audit.jsonl").read_text().splitlines()]
    assert audit[0]["trace_id"] == TRACE
