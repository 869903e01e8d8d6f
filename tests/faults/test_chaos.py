"""One minute of the chaos run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from faults.rows import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.mark.timeout(600)
def test_a_minute_of_chaos_loses_doubles_and_leaves_nothing() -> None:
    command = [sys.executable, "-m", "faults.chaos", "--minutes", "1", "--seed", "5"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
