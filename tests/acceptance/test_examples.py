"""The demos: complete programs with servers of their own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.acceptance.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.slow
def test_the_demo_does_the_main_job_on_real_data_without_a_failed_request() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")], cwd=REPOSITORY, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = re.search(r"Accuracy over HTTP: ([\d.]+)", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 0.97
    assert ", 0 failed" in done.stdout
    assert "never imported TensorFlow or Django" in done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_the_training_demo_reads_unseen_files_by_their_bytes() -> None:
    demo = str(EXAMPLES / "training_demo.py")
    done = subprocess.run([sys.executable, demo], cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unseen files, by their bytes" in done.stdout
    assert "has stopped" in done.stdout
