"""A whole server: why it may refuse to start, and a start and an end as the operator sees them."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import DEADLINE_S, until

from tfserve.config import Settings
from tfserve.supervisor import main as supervisor
from tfserve.supervisor.lock import DataFolderLock, holder
from tfserve.supervisor.web_processes import listen

SERVER = "from tfserve.config import load; from tfserve.supervisor.main import main; raise SystemExit(main(load()))"


@pytest.fixture(autouse=True)
def _process_stays_as_it_was() -> Iterator[None]:
    umask, files = os.umask(0o022), resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    os.umask(umask)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


def refusal(capsys: pytest.CaptureFixture[str], settings: Settings) -> str:
    """What a server that does not start prints."""
    assert supervisor.main(settings) == 1
    return capsys.readouterr().err


# --- refusals


def test_an_address_that_others_can_reach_is_refused_without_authentication(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = refusal(capsys, Settings(data_dir=str(tmp_path), host="0.0.0.0", auth="off"))
    assert printed.startswith(
        "tfserve: Other machines can reach the address 0.0.0.0, and authentication is off (TFSERVE_AUTH=off)"
    )


def test_a_data_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = DataFolderLock(tmp_path)
    printed = refusal(capsys, Settings(data_dir=str(tmp_path)))
    lock.release()
    assert f"The data folder {tmp_path} is in use by another TFserve, pid {os.getpid()}" in printed


def test_a_port_in_use_is_refused_and_the_folder_is_released(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listen("127.0.0.1", 0, 1)[0] as sock:
        port = sock.getsockname()[1]
        printed = refusal(capsys, Settings(data_dir=str(tmp_path), port=port))
    assert printed == f"tfserve: can't listen on 127.0.0.1:{port}: Address already in use\n"
    assert not holder(tmp_path).is_alive


def test_an_access_log_in_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing" / "access.log"
    printed = refusal(capsys, Settings(data_dir=str(tmp_path), access_log=str(missing)))
    assert printed == f"tfserve: No such file or directory: {missing}\n"


def test_too_few_open_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hard = supervisor.MIN_OPEN_FILES - 1
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({hard}, {hard})); {SERVER}"
    ended = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(
        f"tfserve: The limit of open files is {hard} (ulimit -n), and a server needs at least {hard + 1}."
    )


# --- a life


def environment(data: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "TFSERVE_DATA_DIR": str(data), "TFSERVE_WARM_SPARE": "0", "TFSERVE_PORT": "0", **variables}


def started(data: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment(data, **variables), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_says_where_it_is_and_stops_cleanly_on_a_signal(database: Path, number: int) -> None:
    folder = database.parent
    with started(folder) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(3)]
        assert f"is ready (pid {server.pid}, data in {folder})" in lines[0]
        found = holder(folder)
        assert (found.is_alive, found.pid) == (True, server.pid)
        assert lines[1] == f"  pages  {found.address}/\n"
        server.send_signal(number)
        printed, _ = server.communicate(timeout=DEADLINE_S)
    assert server.returncode == 0
    assert "waiting for running jobs to end; a second signal stops immediately" in printed
    assert printed.endswith("tfserve: stopped\n")
    assert holder(folder).pid is None
    asyncio.run(until(lambda: not [*(folder / "processes").iterdir()]))  # the guardian ends after it


def test_a_server_whose_web_process_never_comes_up_says_so_and_ends(database: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'tfserve.web.app' in sys.orig_argv: raise SystemExit('broken on purpose')"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with started(database.parent, PYTHONPATH=path) as server:
        _, errors = server.communicate(timeout=2 * DEADLINE_S)
    assert server.returncode == 1
    assert "tfserve: the web process can't be started; see the log lines above" in errors
