"""The servers and models of the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import digits, models, server, start, workspace

__all__ = ["digits", "models", "server", "start", "workspace"]
