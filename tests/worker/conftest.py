"""Workers and models that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import StartWorker, WorkerProcess

from tests.made import made_by


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
    """A folder with every kind of model, made by real TensorFlow."""
    return made_by(Path(__file__).with_name("make_models.py"), tmp_path_factory)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of `make_converted.py`."""
    return made_by(Path(__file__).with_name("make_converted.py"), tmp_path_factory)
