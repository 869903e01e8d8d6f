"""The pages of a server with 500 workspaces and 10,000 jobs: at most 50 ms and 60 kB each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.pages import GOAL_KB, GOAL_MS, PAGES, Measured, fill
from tests.acceptance.conftest import Server


@pytest.mark.slow
def test_pages_of_many_jobs_are_fast_and_small(start: Callable[..., Server], tmp_path: Path) -> None:
    fill(tmp_path)
    server = start()
    pages = {label: Measured(server.http, server.pid, path) for label, path in PAGES.items()}
    too_large = {label: page.kb for label, page in pages.items() if page.kb > GOAL_KB}
    too_slow = {label: page.processor_ms for label, page in pages.items() if page.processor_ms > GOAL_MS}
    assert not too_large
    assert not too_slow
