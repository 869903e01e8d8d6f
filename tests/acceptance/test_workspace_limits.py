"""Limits of workspaces: a worker that exceeds one is ended, and its job says which limit and how much was used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """No spare, so that workers start without TensorFlow."""
    running = Server(
        tmp_path_factory.mktemp("limited") / "data", "--workspace-disk", "1MiB", environment={"TFSERVE_WARM_SPARE": "0"}
    )
    yield running
    running.close()


def create(server: Server, name: str, **limits: Any) -> str:
    return str(server.call("/create_workspace/", name=name, limits=limits))


def test_a_script_that_takes_too_much_memory_is_lost_with_the_numbers(limited: Server) -> None:
    name = create(limited, "memory", memory="256MiB")
    script = "import time\nkept = []\nwhile True:\n    kept.append(b'x' * 20_000_000)\n    time.sleep(0.01)"
    job = limited.run(name, script)
    assert job["state"] == "lost"
    assert "lost: memory limit exceeded: it used" in job["error"]["message"]
    limit = job["error"]["detail"]["limit"]
    assert (limit["name"], limit["limit"]) == ("memory limit", 256 * 2**20)
    assert limit["used"] > limit["limit"]
    assert limited.run(name, "x = 1")["result"] is True, "the workspace goes on with a new worker"


def test_memory_of_child_processes_counts_once_even_if_they_share_it(limited: Server) -> None:
    name = create(limited, "forks", memory="300MiB")
    shared = (
        "import os\nkept = b'x' * 150_000_000\npids = [os.fork() for _ in range(1)]\n"
        "if not pids[0]:\n    import time\n    time.sleep(2)\n    os._exit(0)\nos.waitpid(pids[0], 0)"
    )
    assert limited.run(name, shared)["result"] is True
    own = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = b\"x\" * 400_000_000; input()'])"
    job = limited.run(name, own.replace("input()", "import time; time.sleep(20)"))
    assert "memory limit exceeded" in job["error"]["message"]


def test_one_allocation_that_is_far_too_large_fails_in_the_script(limited: Server) -> None:
    job = limited.run(create(limited, "huge", memory="256MiB"), "x = bytearray(10**12)")
    assert job["error"]["message"] == "MemoryError"


def test_a_script_with_too_many_processes_is_lost(limited: Server) -> None:
    name = create(limited, "processes", processes=3)
    job = limited.run(
        name, "import subprocess\nall = [subprocess.Popen(['sleep', '30']) for _ in range(5)]\nall[0].wait()"
    )
    assert "lost: process limit exceeded: it used 6 processes (limit: 3)" in job["error"]["message"]


def test_the_processors_of_a_worker_are_limited(limited: Server) -> None:
    job = limited.run(create(limited, "one", threads=1), "import os\nprint(len(os.sched_getaffinity(0)))")
    assert job["stdout"] == "1\n"


def test_output_and_time_of_a_job_are_limited(limited: Server) -> None:
    name = create(limited, "short", output="100", job_time=30)
    job = limited.run(name, "print('x' * 1000)")
    output = limited.http.get(f"/jobs/{job['id']}/output").text
    assert output.startswith("x" * 100 + "\n[the output is longer than 100 bytes")
    status, sentence = limited.refused("/push_job/", name=name, job="1", type=1, time_limit=31)
    assert (status, sentence) == (400, "time_limit must be at most 30 seconds in workspace 'short', got 31")


@pytest.mark.slow
def test_a_script_that_fills_the_folder_is_lost_and_the_next_one_can_tidy_up(limited: Server) -> None:
    name = create(limited, "disk")
    assert limited.run(name, "import time\nopen('small', 'wb').write(bytes(500_000))\ntime.sleep(1)")["result"] is True
    job = limited.run(name, "import time\nopen('large', 'wb').write(bytes(5_000_000))\ntime.sleep(30)")
    message = job["error"]["message"]
    assert "lost: disk limit exceeded: it used 5 MiB in the workspace's folder (limit: 1 MiB)" in message
    assert limited.run(name, "import os\nos.remove('large')")["result"] is True


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory": "10MiB"}, "at least 256 MiB"),
        ({"memory": "900TiB"}, "can't exceed that of the server"),
        ({"disk": "2MiB"}, "can't exceed that of the server"),
        ({"memory": "much"}, "limits.memory must be a size such as 512MiB"),
        ({"threads": -1}, "threads"),
        ({"cpu": 1}, "cpu"),
    ],
)
def test_limits_that_can_not_be_are_refused(limited: Server, limits: Any, words: str) -> None:
    status, sentence = limited.refused("/create_workspace/", name="refused", limits=limits)
    assert status == 400
    assert words in sentence


@pytest.mark.slow
def test_limits_survive_a_restart(start: Start, tmp_path: Path) -> None:
    server = start(TFSERVE_WARM_SPARE="0")
    create(server, "kept", memory="300MiB", threads=1)
    before = server.call("/get_status/", name="kept")["limits"]
    assert server.stop() == 0
    server = start(TFSERVE_WARM_SPARE="0")
    assert server.call("/get_status/", name="kept")["limits"] == before
    assert before["memory_bytes"] == 300 * 2**20
    processors = server.run("kept", "import os\nprint(len(os.sched_getaffinity(0)))")["stdout"]
    assert processors == f"{min(1, len(os.sched_getaffinity(0)))}\n"
