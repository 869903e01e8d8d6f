"""The clients that people have, over gRPC and unchanged: tritonclient, KServe's, tensorflow-serving-api's stubs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY
from tests.protocols import echo
from tests.protocols.clients import PROGRAMS, Clients
from tests.protocols.grpc_port import Port, port, real_model
from tests.protocols.test_grpc import VALUES
from tfserve.web.api.protos import oip_pb2

pytestmark = pytest.mark.slow

__all__ = ["port", "real_model"]


def test_tritonclient_works_with_every_verb_and_type(port: Port, clients: Clients, tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    messages.write_bytes(oip_pb2.DESCRIPTOR.serialized_pb)
    assert clients.run("grpc_triton.py", port.address, str(messages))["fields"] > 100


def test_the_client_of_kserve_works_with_every_type(port: Port, clients: Clients) -> None:
    port.deploy("types", echo.write(port.server.roots / "types.echo"))
    assert len(set(clients.run("grpc_kserve.py", port.address))) == len(VALUES) - 1


def test_the_stubs_of_tensorflow_serving_work(real_model: Port, clients: Clients, tmp_path: Path) -> None:
    """With TensorFlow's own messages, which are in the project's environment and not in that of the clients."""
    (found,) = clients.folder.glob("lib/python*/site-packages/tensorflow_serving")
    (tmp_path / "tensorflow_serving").symlink_to(found)
    base = real_model.server.roots / "numbered"
    for number in ("1", "2"):
        (base / number).mkdir(parents=True)
        echo.write(base / number / "model.echo")
    done = subprocess.run(
        [sys.executable, PROGRAMS / "grpc_tensorflow_serving.py", real_model.address, str(base)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["fields"] > 60
