"""A server with a gRPC port, and the environment with other people's packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.protocols.clients import Clients
from tests.protocols.grpc_port import free_port

PACKAGES = Path(__file__).with_name("packages.txt")


@pytest.fixture(scope="session")
def packages() -> Clients:
    """The packages that ship trained models, beside the product's own libraries."""
    return Clients(PACKAGES, sees_product=True)


@pytest.fixture(scope="session")
def clients() -> Clients:
    return Clients()


@pytest.fixture(scope="session")
def grpc_address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, packages: Clients, grpc_address: str) -> Iterator[Server]:
    """Models are read where the packages were installed."""
    roots = os.pathsep.join([str(packages.folder), str(tmp_path_factory.getbasetemp())])
    folder = tmp_path_factory.mktemp("server") / "data"
    port = grpc_address.rpartition(":")[2]
    running = Server(folder, "--grpc-port", port, environment={"TFSERVE_ROOTS": roots})
    yield running
    running.close()


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's face in a JPEG file."""
    from PIL import Image
    from skimage import data

    file = tmp_path_factory.mktemp("photograph") / "astronaut.jpg"
    Image.fromarray(data.astronaut()).save(file, quality=92)
    return file
