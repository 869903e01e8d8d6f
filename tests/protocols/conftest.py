"""A server with models for the protocol tests."""

from __future__ import annotations

from tests.acceptance.conftest import server, start, workspace

__all__ = ["server", "start", "workspace"]
