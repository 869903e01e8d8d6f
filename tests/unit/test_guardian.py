"""Who is left over from a server, and who only has the pid of somebody who was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfserve.supervisor import guardian

MARK = f"test-of-the-guardian-{os.getpid()}:"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "1000"], env={}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_recorded_process_is_ended_and_one_that_has_only_its_pid_is_not(sleeper: subprocess.Popen[bytes]) -> None:
    other = str(int(started(sleeper.pid)) - 1)
    assert guardian.end_all(MARK, {sleeper.pid: other, os.getpid(): started(os.getpid())}) == set()
    assert sleeper.poll() is None
    assert guardian.end_all(MARK, {sleeper.pid: started(sleeper.pid)}) == {sleeper.pid}
    assert sleeper.wait(5) == -9


def test_everything_below_a_marked_process_is_ended_whatever_its_environment() -> None:
    program = (
        "import subprocess\n"
        "child = subprocess.Popen(['/bin/sleep', '1000'], env={}, start_new_session=True)\n"
        "print(child.pid, flush=True)"
    )
    marked = subprocess.Popen(
        [sys.executable, "-c", f"{program}\nimport time; time.sleep(1000)"], stdout=subprocess.PIPE, text=True,
        env={"TFSERVE_OWNER": f"{MARK}1"},
    )  # fmt: skip
    assert marked.stdout is not None
    with marked.stdout:
        below = int(marked.stdout.readline())
    assert guardian.end_all(MARK, {}) == {marked.pid, below}
    assert marked.wait(5) == -9


@pytest.mark.parametrize("text", ["", "another-boot\n1 2\n", "{boot}\n1\n", "{boot}\nx y\n", "{boot}"])
def test_a_record_of_another_boot_or_that_is_not_whole_names_nobody(tmp_path: Path, text: str) -> None:
    record = tmp_path / "record"
    record.write_text(text.format(boot=guardian.boot_id()))
    assert guardian.read(str(record)) == {}
    assert guardian.read(str(tmp_path / "none")) == {}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text(f"{guardian.boot_id()}\n12 345\n67 89\n")
    assert guardian.read(str(record)) == {12: "345", 67: "89"}
