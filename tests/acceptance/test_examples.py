"""The same conversation in curl, Node and Java, each against a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY, Server

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        pytest.param("curl", ["bash", "workspace.sh"], marks=pytest.mark.slow),
        pytest.param("node", ["node", "workspace.mjs"], marks=pytest.mark.slow),
        pytest.param("java", ["java", "Workspace.java"], marks=pytest.mark.slow),
    ],
)
def test_an_example_trains_deploys_and_predicts(server: Server, tool: str, command: list[str]) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    before = server.call("/get_workspace/")
    done = subprocess.run(
        [*command[:-1], str(EXAMPLES / command[-1]), server.url],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"accuracy", done.stdout, re.IGNORECASE), done.stdout
    assert server.call("/get_workspace/") == before, "it tidies up"


def test_an_example_that_can_not_reach_the_server_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(EXAMPLES / "workspace.sh"), "http://127.0.0.1:1"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0


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
