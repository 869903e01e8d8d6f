"""The shared host: workspaces as threads, each with its own variables, output and folder."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from worker_process import UNTELLABLE, StartWorker, WorkerProcess, eventually

from tfserve.ipc.messages import (
    BecomeHost,
    ClearVariables,
    Done,
    DropWorkspace,
    Failed,
    JobState,
    Predict,
    ReadVariables,
    ScriptEnded,
    Variables,
)


@pytest.fixture
def host(start_worker: StartWorker) -> WorkerProcess:
    worker = start_worker()
    worker.ask(BecomeHost(), Done)
    return worker


def start(host: WorkerProcess, workspace: str, text: str | None, **fields: Any) -> int:
    return host.start(text, workspace=workspace, folder=str(host.folder / workspace), **fields)


def run(host: WorkerProcess, workspace: str, text: str | None = None, **fields: Any) -> ScriptEnded:
    return host.wait(start(host, workspace, text, **fields), ScriptEnded)


def read(host: WorkerProcess, workspace: str) -> dict[str, Any]:
    question = ReadVariables(workspace=workspace, names=None, limit_bytes=10_000)
    return json.loads(host.ask(question, Variables).values)


def printed(host: WorkerProcess, workspace: str, stream: int = 1) -> str:
    parts = [each.data for each in host.outputs if (each.workspace, each.stream) == (workspace, stream)]
    return b"".join(parts).decode()


MEET = (
    "import os, time\nopen('../met-{me}', 'w').close()\nwhile not os.path.exists('../met-{other}'): time.sleep(0.001)\n"
)


def test_two_workspaces_run_at_the_same_time_with_their_own_output_and_folder(host: WorkerProcess) -> None:
    finish = "print('{me}', os.getcwd())\nx = '{me}'"
    first = start(host, "a", (MEET + finish).format(me="a", other="b"))
    second = start(host, "b", (MEET + finish).format(me="b", other="a"))
    for request in (first, second):
        assert host.wait(request, ScriptEnded).state is JobState.SUCCEEDED
    for name in ("a", "b"):
        assert printed(host, name) == f"{name} {host.folder / name}\n"
        assert read(host, name)["x"] == name


def test_output_comes_before_the_end_and_says_which_job_and_stream_it_is_of(host: WorkerProcess) -> None:
    run(host, "a", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.stdout.buffer.write(b'\\xff')")
    assert [(each.job, each.stream, each.data) for each in host.outputs] == [
        (0, 1, b"out\n"),
        (0, 2, b"err\n"),
        (0, 1, b"\xff"),
    ]


def test_large_output_comes_in_pieces(host: WorkerProcess) -> None:
    run(host, "a", "print('x' * 10**6)")
    assert printed(host, "a") == "x" * 10**6 + "\n"
    assert max(len(each.data) for each in host.outputs) <= 256 * 1024


def test_what_threads_of_a_script_print_goes_to_the_real_stream(host: WorkerProcess) -> None:
    run(
        host,
        "a",
        "import threading\nthread = threading.Thread(target=print, args=['aside'])\nthread.start()\nthread.join()",
    )
    assert host.outputs == []
    eventually(lambda: host.stdout() == "aside\n")


def test_a_script_that_closes_its_stdout_does_not_silence_the_next(host: WorkerProcess) -> None:
    run(host, "a", "import sys\nsys.stdout.close()")
    run(host, "a", "print('still here')")
    run(host, "b", "print('here too')")
    assert (printed(host, "a"), printed(host, "b")) == ("still here\n", "here too\n")


def test_a_file_runs_with_its_own_folder_first_in_the_path(host: WorkerProcess) -> None:
    (host.folder / "beside.py").write_text("value = 42")
    (host.folder / "program.py").write_text("from beside import value\nname = __name__\nfile = __file__")
    run(host, "a", file=str(host.folder / "program.py"))
    assert read(host, "a") == {"value": 42, "name": "__main__", "file": str(host.folder / "program.py")}
    assert run(host, "a", "import sys\nassert sys.path[0] == ''").state is JobState.SUCCEEDED


def test_clearing_one_workspace_leaves_the_others(host: WorkerProcess) -> None:
    run(host, "a", "x = 1")
    run(host, "b", "x = 2")
    host.ask(ClearVariables(workspace="a"), Done)
    assert (read(host, "a"), read(host, "b")) == ({}, {"x": 2})
    run(host, "b", "y = 3", clear=True)
    assert read(host, "b") == {"y": 3}


def test_a_failure_shows_the_script_s_own_lines(host: WorkerProcess) -> None:
    ended = run(host, "a", "x = 1\n1 / 0")
    assert ended.state is JobState.FAILED
    assert json.loads(ended.variables) == {"x": 1}
    told = json.loads(ended.error or b"")["traceback"]
    assert 'File "<job 0 of a>", line 2, in <module>\n    1 / 0' in told
    assert "tfserve" not in told


def test_an_interrupt_ends_only_the_job_that_is_meant(host: WorkerProcess) -> None:
    loop = "import time\nopen('begun', 'w').close()\nwhile not stop: time.sleep(0.001)\nfinished = True"
    run(host, "a", "stop = False")
    run(host, "b", "stop = False")
    first, first_job = start(host, "a", loop), host.last_job
    second = start(host, "b", loop.replace("not stop", "not __import__('os').path.exists('go')"))
    eventually(lambda: all((host.folder / name / "begun").exists() for name in ("a", "b")))
    host.interrupt(first_job, workspace="a")
    ended = host.wait(first, ScriptEnded)
    assert ended.state is JobState.CANCELLED
    assert "KeyboardInterrupt" in json.loads(ended.error or b"")["traceback"]
    (host.folder / "b" / "go").touch()
    assert host.wait(second, ScriptEnded).state is JobState.SUCCEEDED
    assert run(host, "a", "x = 1").state is JobState.SUCCEEDED


def test_interrupts_that_race_with_the_end_of_jobs_never_end_a_thread(host: WorkerProcess) -> None:
    for n in range(200):
        request = start(host, "a", f"for _ in range({n % 20} * 100): pass")
        host.interrupt(workspace="a")
        assert host.wait(request, ScriptEnded).state in (JobState.SUCCEEDED, JobState.CANCELLED)
    assert run(host, "a", "x = 1").state is JobState.SUCCEEDED


def test_dropping_a_workspace_forgets_it_and_ends_what_it_runs(host: WorkerProcess) -> None:
    run(host, "a", "x = 1")
    request = start(host, "a", "import time\nopen('begun', 'w').close()\nwhile True: time.sleep(0.001)")
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    assert host.wait(request, ScriptEnded).state is JobState.CANCELLED
    assert read(host, "a") == {}
    host.ask(DropWorkspace(workspace="never seen"), Done)


STUCK = (
    "import os, time\nopen('begun', 'w').close()\nwhile not os.path.exists('go'):\n"
    "    try: time.sleep(0.001)\n    except KeyboardInterrupt: pass\nprint('late')"
)


def test_a_workspace_is_dropped_at_once_though_its_thread_is_stuck(host: WorkerProcess) -> None:
    request, job = start(host, "a", STUCK), host.last_job
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    run(host, "a", "print('new')")
    (host.folder / "a" / "go").touch()
    host.wait(request, ScriptEnded)
    assert [(each.job, each.data) for each in host.outputs] == [(job + 1, b"new\n"), (job, b"late\n")]


def test_dropping_a_workspace_also_ends_what_waits_in_it(host: WorkerProcess) -> None:
    first = start(host, "a", STUCK)
    second = start(host, "a", "while True: pass")
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    (host.folder / "a" / "go").touch()
    host.wait(first, ScriptEnded)
    assert host.wait(second, ScriptEnded).state is JobState.CANCELLED


def test_a_stream_that_was_kept_writes_nothing_under_a_job_that_has_ended(host: WorkerProcess) -> None:
    run(host, "a", "import sys\nkept = sys.stdout.write\nkept('first\\n')")
    run(host, "a", "kept('second\\n')\nprint('third')")
    assert [(each.job, each.data) for each in host.outputs] == [(0, b"first\n"), (1, b"third\n")]
    eventually(lambda: host.stdout() == "second\n")


@pytest.mark.parametrize("script", UNTELLABLE.values(), ids=UNTELLABLE)
def test_an_exception_that_is_hard_to_tell_ends_no_thread(host: WorkerProcess, script: str) -> None:
    ended = run(host, "a", script)
    assert ended.state is JobState.FAILED
    assert json.loads(ended.error or b"")["type"]
    assert run(host, "a", "x = 1").state is JobState.SUCCEEDED


def test_an_interrupt_ends_the_conversion_of_variables_but_their_own_exceptions_do_not(host: WorkerProcess) -> None:
    run(host, "a", "class Odd:\n    def __str__(self): raise KeyboardInterrupt\nodd = Odd()\nkept = 1")
    found = read(host, "a")
    assert (found["odd"], found["kept"]) == ("<Odd whose str() raised KeyboardInterrupt>", 1)
    endless = "class Endless:\n    def __str__(self):\n        open('begun', 'w').close()\n        while True: pass\n"
    request = start(host, "a", f"{endless}endless = Endless()")
    eventually((host.folder / "a" / "begun").exists)
    host.interrupt(workspace="a")
    assert host.wait(request, ScriptEnded).state is JobState.CANCELLED
    assert run(host, "a", "del endless").state is JobState.SUCCEEDED


@pytest.mark.parametrize("name", ["isinstance", "BaseException", "str", "len"])
def test_a_deleted_builtin_is_there_again_for_the_others(host: WorkerProcess, name: str) -> None:
    run(host, "b", "x = 1")
    assert run(host, "a", f"import builtins\ndel builtins.{name}").state is JobState.SUCCEEDED
    assert run(host, "b", f"print({name})\ny = [x]").state is JobState.SUCCEEDED
    assert read(host, "b") == {"x": 1, "y": [1]}


def test_a_host_that_can_t_work_without_a_builtin_dies_instead_of_hanging(host: WorkerProcess) -> None:
    start(host, "a", "import builtins, time\ndel builtins.isinstance\nopen('begun', 'w').close()\ntime.sleep(100)")
    eventually((host.folder / "a" / "begun").exists)
    start(host, "b", "x = 1")
    assert host.process.wait(10) < 0


def test_a_host_whose_line_is_closed_by_a_script_ends_at_once(host: WorkerProcess) -> None:
    start(host, "a", "import os\nos.closerange(3, 4000)")
    assert host.process.wait(10) == os.EX_IOERR


def test_a_forked_child_ends_with_the_script_and_prints_to_the_real_stream(host: WorkerProcess) -> None:
    script = (
        "import os\npid = os.fork()\nif pid == 0:\n    print('child')\n"
        "else:\n    os.waitpid(pid, 0)\n    print('parent')"
    )
    assert run(host, "a", script).state is JobState.SUCCEEDED
    assert printed(host, "a") == "parent\n"
    assert host.stdout() == "child\n"


def test_a_host_stops_when_told_and_refuses_what_is_not_for_it(host: WorkerProcess) -> None:
    assert host.ask(Predict(requests=[]), Failed).failure.code == "invalid"
    run(host, "a", "x = 1")
    assert host.stop() == 0
