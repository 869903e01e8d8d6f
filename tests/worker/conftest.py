"""Workers and models that several tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import StartWorker, WorkerProcess


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers, each in a folder of its own, and ends them after the test."""
    started: list[WorkerProcess] = []

    def start(*options: str) -> WorkerProcess:
        folder = tmp_path / f"worker{len(started)}"
        folder.mkdir()
        started.append(WorkerProcess(folder, *options))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


@pytest.fixture
def worker(start_worker: StartWorker) -> WorkerProcess:
    """One that runs scripts."""
    process = start_worker()
    process.become_scripts()
    return process


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of model, made once by real TensorFlow in a process of its own."""
    return made_by("make_models.py", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of `make_converted.py`."""
    return made_by("make_converted.py", tmp_path_factory.mktemp("converted"))


def made_by(program: str, folder: Path) -> Path:
    """What a program makes with TensorFlow, in a process of its own."""
    command = [sys.executable, Path(__file__).parent / program, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder
