"""The suites of workspaces, deployments, predictions and trainings pass with every worker on another machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.ray_cluster import nodes
from tests.ray_cluster.cluster import REPOSITORY
from tests.ray_cluster.machines import Machine

SUITES = (
    "test_contract.py", "test_workspaces.py", "test_jobs.py", "test_models.py", "test_training.py",
    "test_training_recovery.py",
)  # fmt: skip
TIMEOUT_S = 1800


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_passes_with_every_worker_on_a_node(machines: list[Machine], suite: str) -> None:
    head, other, _ = machines
    runs = head.start(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/acceptance/{suite}"],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, nodes.MACHINE: other.name, nodes.ADDRESSES: f"{head.address} {other.address}"},
    )  # fmt: skip
    printed, _ = runs.communicate(timeout=TIMEOUT_S)
    assert runs.returncode == 0, printed[-6000:]
