"""The servers and models of the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import models, server, start, workspace

__all__ = ["models", "server", "start", "workspace"]
