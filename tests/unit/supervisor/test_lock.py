"""One server for one data folder, and who has the folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfserve.supervisor.lock import NAME, DataFolderInUse, DataFolderLock, Holder, holder

HOLDS = """
import sys, pathlib
from tfserve.supervisor.lock import DataFolderLock
lock = DataFolderLock(pathlib.Path(sys.argv[1]))
lock.write("http://127.0.0.1:8000")
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@contextlib.contextmanager
def other_server(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder until its input ends."""
    command = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("is_file_deleted", [False, True])
def test_a_second_server_is_refused_with_the_pid_of_the_first(tmp_path: Path, is_file_deleted: bool) -> None:
    with other_server(tmp_path) as other:
        if is_file_deleted:
            (tmp_path / NAME).unlink()
        with pytest.raises(DataFolderInUse, match=f"in use by another TFserve, pid {other.pid}. Stop that one"):
            DataFolderLock(tmp_path)
        assert holder(tmp_path).pid == other.pid
        assert holder(tmp_path).is_alive


def test_the_folder_is_free_when_its_server_has_ended_however_it_ended(tmp_path: Path) -> None:
    with other_server(tmp_path) as other:
        assert holder(tmp_path) == Holder(is_alive=True, pid=other.pid, address="http://127.0.0.1:8000")
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert holder(tmp_path) == Holder(is_alive=False, pid=other.pid, address="http://127.0.0.1:8000")
    lock = DataFolderLock(tmp_path)
    assert holder(tmp_path) == Holder(is_alive=True, pid=os.getpid(), address="")
    lock.release()
    assert holder(tmp_path) == Holder(is_alive=False)


def test_a_folder_that_is_not_there_has_no_holder_and_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    assert holder(folder) == Holder(is_alive=False)
    DataFolderLock(folder).release()
    assert folder.is_dir()


def test_who_only_asks_for_the_status_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    asked = DataFolderLock(tmp_path)
    threading.Timer(0.06, asked.release).start()
    started_at = time.monotonic()
    DataFolderLock(tmp_path).release()
    assert time.monotonic() - started_at > 0.05


def test_a_lock_file_with_something_else_in_it_names_nobody(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff not a pid\n\n")
    assert holder(tmp_path) == Holder(is_alive=False)
