"""Child processes: how each ended, what is ended along with it, and what a former server has left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from supervised import is_running, until

from tfserve import linux
from tfserve.supervisor.processes import child as processes
from tfserve.supervisor.processes import guardian
from tfserve.supervisor.processes.child import Child, Exit, Role, kill_leftovers, owner_of

LEAVES_A_CHILD = "/bin/sleep 1000 & echo $!"
"""What a shell does to start a process that it does not wait for, and to print its id."""
LEAVES_A_SESSION = (
    "import subprocess; print(subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True).pid, flush=True)"
)


def start(command: str, role: Role = Role.SCRIPT, **options: Any) -> Child:
    """A shell."""
    return Child.start(["/bin/sh", "-c", command], role=role, environment=dict(os.environ), **options)


def start_python(program: str) -> Child:
    return Child.start(
        [sys.executable, "-c", program], role=Role.SCRIPT, environment=dict(os.environ), output=subprocess.PIPE
    )


async def line_of(child: Child) -> str:
    """The next line that it prints."""
    stdout = child._popen.stdout
    assert stdout is not None
    return (await asyncio.to_thread(stdout.readline)).decode().strip()


def close(child: Child) -> None:
    for stream in (child._popen.stdout, child._popen.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def adopting() -> Iterator[None]:
    """Orphans come to this process, as they come to the server."""
    linux.adopt_orphans()
    yield
    linux._prctl(linux.PR_SET_CHILD_SUBREAPER, 0)


# --- how it ended


async def test_the_exit_code_the_memory_and_the_lifetime_of_a_process_are_known() -> None:
    exit_ = await start("exit 3").ended
    assert (exit_.code, exit_.signal, exit_.signal_name) == (3, None, None)
    assert exit_.peak_memory_bytes > 100_000
    assert 0 < exit_.lived_s < 10
    assert exit_.sentence.startswith("it exited with code 3 (peak memory ")


@pytest.mark.parametrize(
    ("number", "name", "sentence"),
    [
        (signal.SIGABRT, "SIGABRT", "it was killed by SIGABRT (peak"),
        (signal.SIGKILL, "SIGKILL", "it was killed by SIGKILL, often the out-of-memory killer (peak"),
        (40, "signal 40", "it was killed by signal 40 (peak"),
    ],
)
async def test_a_signal_from_outside_is_named(number: int, name: str, sentence: str) -> None:
    exit_ = await start(f"kill -{int(number)} $$; sleep 9").ended
    assert (exit_.code, exit_.signal, exit_.signal_name) == (None, number, name)
    assert exit_.sentence.startswith(sentence)


async def test_a_process_that_this_server_killed_says_why_and_the_first_reason_counts() -> None:
    child = start("sleep 1000")
    child.kill("it took too long")
    child.kill("the server stops")
    exit_ = await child.ended
    assert exit_.sentence.startswith("this server killed it because it took too long (peak memory ")
    child.kill("it is gone already")
    child.terminate()
    child.kill_descendants()
    assert not child.alive


async def test_a_process_that_ends_before_it_is_killed_is_not_said_to_be_killed() -> None:
    assert Exit(code=2, signal=None, peak_memory_bytes=2**21, lived_s=1, killed_because="late").sentence == (
        "it exited with code 2 (peak memory 2 MiB)"
    )


async def test_a_process_is_asked_to_end_and_may_refuse() -> None:
    polite = start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", output=subprocess.PIPE)
    assert await line_of(polite) == "ready"
    polite.terminate()
    assert (await polite.ended).code == 7
    close(polite)


async def test_deaths_that_nobody_requested_are_counted_by_role_and_workspace() -> None:
    before = processes.deaths.copy()
    for role, workspace, is_asked in [(Role.MODEL, "a", False), (Role.MODEL, "a", False), (Role.TRAIN, "b", True)]:
        child = start("sleep 1000", role)
        child.workspace = workspace
        if is_asked:
            child.kill("the test wants it")
        else:
            os.kill(child.pid, signal.SIGTERM)
        await child.ended
    assert processes.deaths - before == {(Role.MODEL, "a"): 2}


async def test_all_living_processes_are_known() -> None:
    children = [start("sleep 1000") for _ in range(2)]
    assert {child.pid for child in processes.living()} == {child.pid for child in children}
    for child in children:
        child.kill("the test ends")
        await child.ended
    assert processes.living() == []


async def test_a_process_has_only_the_files_that_it_is_given() -> None:
    kept, other = os.memfd_create("kept"), os.memfd_create("other")
    os.set_inheritable(other, True)
    child = start(
        f"test -e /proc/$$/fd/{kept} && test ! -e /proc/$$/fd/{other} && read nothing", keep_fds=[kept],
        output=subprocess.DEVNULL,
    )  # fmt: skip
    assert (await child.ended).code == 1, "its input is empty, so `read` fails"
    os.close(kept)
    os.close(other)


# --- what goes with it


@pytest.mark.parametrize("program", [f"import os; os.system({LEAVES_A_CHILD!r})", LEAVES_A_SESSION])
async def test_a_killed_process_takes_along_what_it_started(program: str) -> None:
    child = start_python(f"{program}\nimport time; time.sleep(1000)")
    below = int(await line_of(child))
    assert is_running(below)
    child.kill("the test wants it")
    await child.ended
    await until(lambda: not is_running(below))
    close(child)


async def test_what_a_process_started_can_be_killed_without_it() -> None:
    child = start(f"{LEAVES_A_CHILD}; wait; echo alone; exec sleep 1000", output=subprocess.PIPE)
    below = int(await line_of(child))
    child.kill_descendants()
    assert await line_of(child) == "alone", "its wait is over, and it goes on"
    assert child.alive
    assert not is_running(below)
    child.kill("the test ends")
    await child.ended
    close(child)


async def test_what_a_dead_worker_left_behind_is_killed_and_reaped(
    adopting: None, caplog: pytest.LogCaptureFixture
) -> None:
    other = start("sleep 1000")
    child = start_python(f"{LEAVES_A_SESSION}\nimport os; os._exit(0)")
    stray = int(await line_of(child))
    with caplog.at_level(logging.WARNING):
        await child.ended
    await until(lambda: not Path(f"/proc/{stray}").exists())
    assert f"killing process {stray}" in caplog.text
    assert other.alive, "it is another worker"
    other.kill("the test ends")
    await other.ended
    close(child)


@pytest.fixture
def sidecar() -> Iterator[subprocess.Popen[bytes]]:
    """What a shell script starts before it becomes the server."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as process:
        yield process
        process.kill()


async def test_a_program_that_shares_the_session_of_the_server_is_not_killed(
    adopting: None, sidecar: subprocess.Popen[bytes]
) -> None:
    await start("exit 1").ended
    with pytest.raises(subprocess.TimeoutExpired):
        sidecar.wait(0.05)


# --- former servers


def test_servers_on_one_data_folder_have_the_same_mark_and_others_have_another_one() -> None:
    assert owner_of("/a") == owner_of("/a") != owner_of("/b")


@pytest.mark.parametrize("is_marked", [True, False])
def test_what_a_former_server_left_over_is_killed(
    tmp_path: Path, is_marked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By its mark in the environment, or by the record that the server's guardian has left."""
    owner, records = owner_of(str(tmp_path)), tmp_path / "processes"
    records.mkdir()
    environment = {processes.OWNER: f"{owner}1:ab"} if is_marked else {}
    left = subprocess.Popen(["/bin/sleep", "1000"], env=environment, start_new_session=True)
    other = subprocess.Popen(
        ["/bin/sleep", "1000"], env={processes.OWNER: f"{owner_of('/other')}1:ab"}, start_new_session=True
    )
    try:
        if not is_marked:
            started = Path(f"/proc/{left.pid}/stat").read_text().rpartition(")")[2].split()[19]
            (records / "1").write_text(f"{guardian.boot_id()}\n{left.pid} {started}\n")
        (records / "2").write_text("damaged")
        with caplog.at_level(logging.WARNING):
            kill_leftovers(owner, records)
        assert left.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for each in (left, other):
            each.kill()
            each.wait()
    assert caplog.messages == [f"killed process {left.pid}, left over from a former server"]
    assert list(records.iterdir()) == []
