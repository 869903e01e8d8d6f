"""A server with models for the protocol tests, and the clients that talk to it."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import models, server, start, workspace
from tests.protocols.clients import Clients

__all__ = ["models", "server", "start", "workspace"]


@pytest.fixture(scope="session")
def clients() -> Clients:
    """tritonclient, kserve and the stubs of TensorFlow Serving, in an environment of their own."""
    return Clients()
