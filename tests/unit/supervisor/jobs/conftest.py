"""Fixtures for the tests of jobs, in addition to those of all supervisor tests."""

from __future__ import annotations

import psutil
import pytest

from tfserve.supervisor.processes import child as processes


@pytest.fixture(autouse=True)
def _keep_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor kills children that it has not started when a worker dies; other tests have started some."""
    for child in psutil.Process().children():
        monkeypatch.setitem(processes._ours, child.pid, None)
