"""Which processes are left over from a server, and what the guardian does when its server ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tfserve.supervisor.processes import guardian

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


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    """A shell in the place of a server: it prints the pids of a process in a session of its own and of one in its."""
    own = f'{sys.executable} -c \'import os; os.setsid(); os.execv("/bin/sleep", ["sleep", "1000"])\''
    script = f"{own} & echo $!; sleep 1000 & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True, env={}) as shell:
        yield shell
        shell.kill()


def test_when_its_server_ends_the_guardian_kills_what_the_server_started(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], server: subprocess.Popen[str]
) -> None:
    assert server.stdout is not None
    started_by_it, beside_it = int(server.stdout.readline()), int(server.stdout.readline())
    record = tmp_path / "record"
    marked = subprocess.Popen(["/bin/sleep", "1000"], env={"TFSERVE_OWNER": f"{MARK}9:a"}, start_new_session=True)
    reading, writing = os.pipe()
    command = [sys.executable, "-I", "-S", guardian.__file__, f"{MARK}9", str(server.pid), str(record)]
    with subprocess.Popen(command, stdin=reading, env={}, start_new_session=True) as process:
        os.close(reading)
        wait_for(lambda: started_by_it in guardian.read(str(record)))
        assert list(guardian.read(str(record))) == [started_by_it], "what shares its session was there before it"
        process.terminate()
        server.kill()
        assert marked.poll() is None
        assert process.poll() is None, "it does not end before its server"
        os.close(writing)
        assert process.wait(10) == 0
    assert marked.wait(5) == -9
    assert is_gone(started_by_it)
    assert not is_gone(beside_it)
    os.kill(beside_it, 9)
    assert sleeper.poll() is None
    assert not record.exists()
