"""The pages of a server with 500 workspaces and 10,000 jobs: at most 50 ms and 60 kB each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.pages import GOAL_KB, GOAL_MS, PAGES, Measured, fill
from tests.acceptance.conftest import Server

NOISE = 1.5
"""Other tests run at the same time, so the fastest of some requests may take this much longer."""


@pytest.mark.slow
def test_pages_of_many_jobs_are_fast_and_small(start: Callable[..., Server], tmp_path: Path) -> None:
    fill(tmp_path)
    server = start()
    pages = {label: Measured(server.http, path, repeats=10) for label, path in PAGES.items()}
    too_large = {label: page.kb for label, page in pages.items() if page.kb > GOAL_KB}
    too_slow = {label: page.fastest_ms for label, page in pages.items() if page.fastest_ms > NOISE * GOAL_MS}
    assert not too_large
    assert not too_slow
