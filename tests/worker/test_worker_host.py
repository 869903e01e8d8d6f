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
    OpenWorkspace,
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


def open_workspace(host: WorkerProcess, workspace: str) -> None:
    paths = [host.folder / f"{workspace}.{stream}" for stream in (1, 2)]
    for path in paths:
        path.touch()
    host.ask(OpenWorkspace(workspace=workspace, stdout=str(paths[0]), stderr=str(paths[1])), Done)


def start(host: WorkerProcess, workspace: str, text: str | None, **fields: Any) -> int:
    if not (host.folder / f"{workspace}.1").exists():
        open_workspace(host, workspace)
    return host.start(text, workspace=workspace, folder=str(host.folder / workspace), **fields)


def run(host: WorkerProcess, workspace: str, text: str | None = None, **fields: Any) -> ScriptEnded:
    return host.wait(start(host, workspace, text, **fields), ScriptEnded)


def read(host: WorkerProcess, workspace: str) -> dict[str, Any]:
    question = ReadVariables(workspace=workspace, names=None, limit_bytes=10_000)
    return json.loads(host.ask(question, Variables).values)


def printed(host: WorkerProcess, workspace: str, stream: int = 1) -> str:
    return (host.folder / f"{workspace}.{stream}").read_bytes().decode("latin-1")


def left_by(ended: ScriptEnded) -> dict[str, Any]:
    assert ended.state is JobState.SUCCEEDED, ended.error
    return json.loads(ended.variables)


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


def test_output_is_there_at_the_end_of_the_job_and_each_stream_apart(host: WorkerProcess) -> None:
    run(host, "a", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.stdout.buffer.write(b'\\xff')")
    assert (printed(host, "a"), printed(host, "a", 2)) == ("out\n\xff", "err\n")


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


TRACE = """
import sys, threading
seen = []
def trace(frame, event, argument):
    seen.append(event)
    return trace
def watched(n):
    return n + 1
sys.settrace(trace)
watched(1)
sys.settrace(None)
thread = threading.Thread(target=watched, args=(1,))
threading.settrace(trace)
thread.start()
thread.join()
threading.settrace(None)
"""


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_script_can_trace_functions_as_debuggers_do(host: WorkerProcess, *, interrupt: bool) -> None:
    """CPython 3.11 does not begin a traced function while an exception for a thread seems to be waiting."""
    for _ in range(20):
        request = start(host, "a", "for _ in range(100): pass")
        if interrupt:
            host.interrupt(workspace="a")
        host.wait(request, ScriptEnded)
    assert run(host, "a", TRACE).state is JobState.SUCCEEDED
    assert {"call", "line", "return"} <= set(read(host, "a")["seen"])


WITH_EXIT = """
import atexit, runpy, sys
class Exit:
    def __init__(self): self.calls = []
    def __call__(self, *what): self.calls.append(what[0].__name__ if what else "exit")
    def reset(self): self.calls.clear()
at_exit = Exit()
sys.excepthook = at_exit
atexit.register(at_exit)
open("program.py", "w").write("import atexit; atexit.register(at_exit)")
runpy.run_path("program.py", {"at_exit": at_exit}, "__main__")
"""

ENDLESS_EXIT = """
at_exit.reset()
atexit.register(at_exit)
@atexit.register
def endless():
    open("in_exit", "w").close()
    while True: pass
"""

FIND_EXIT = (
    "import gc, weakref\nexits = [weakref.ref(each) for each in gc.get_objects() if type(each).__name__ == 'Exit']"
)

EXIT_IS_GONE = "import time\nwhile exits[0]() is not None:\n    gc.collect()\n    time.sleep(0.01)"


def test_what_a_script_sets_for_its_exit_ends_with_its_job_or_workspace(host: WorkerProcess) -> None:
    failing = start(host, "b", WITH_EXIT + (MEET + "1 / 0").format(me="b", other="a"))
    other = MEET + "import sys\nis_own = sys.excepthook is sys.__excepthook__"
    assert left_by(run(host, "a", other.format(me="a", other="b")))["is_own"]
    assert host.wait(failing, ScriptEnded).state is JobState.FAILED
    assert left_by(run(host, "b", "calls = at_exit.calls.copy()"))["calls"] == ["ZeroDivisionError", "exit", "exit"]
    in_exit = host.folder / "b" / "in_exit"
    cancelled = start(host, "b", ENDLESS_EXIT)
    eventually(in_exit.exists)
    host.interrupt(workspace="b")
    assert host.wait(cancelled, ScriptEnded).state is JobState.CANCELLED
    assert left_by(run(host, "b", "calls = at_exit.calls.copy()"))["calls"] == []
    in_exit.unlink()
    assert len(left_by(run(host, "a", FIND_EXIT))["exits"]) == 1
    dropped = start(host, "b", ENDLESS_EXIT)
    eventually(in_exit.exists)
    host.ask(DropWorkspace(workspace="b"), Done)
    assert host.wait(dropped, ScriptEnded).state is JobState.CANCELLED
    left_by(run(host, "a", EXIT_IS_GONE))


def test_dropping_a_workspace_forgets_it_and_ends_what_it_runs(host: WorkerProcess) -> None:
    run(host, "a", "x = 1")
    request = start(host, "a", "import time\nopen('begun', 'w').close()\nwhile True: time.sleep(0.001)")
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    assert host.wait(request, ScriptEnded).state is JobState.CANCELLED
    host.ask(ReadVariables(workspace="a", names=None, limit_bytes=1000), Failed)
    open_workspace(host, "a")
    assert read(host, "a") == {}
    host.ask(DropWorkspace(workspace="never seen"), Done)


STUCK = """import os, time
while not os.path.exists('go'):
    try:
        open('begun', 'w').close()
        while not os.path.exists('go'): time.sleep(0.001)
    except KeyboardInterrupt: pass
print('late')
"""
"""Ignores an interrupt: from the moment that it has begun, all that it does is inside the `try`."""


def test_a_workspace_is_dropped_at_once_though_its_thread_is_stuck(host: WorkerProcess) -> None:
    request = start(host, "a", STUCK)
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    (host.folder / "a.1").rename(host.folder / "old.1")
    open_workspace(host, "a")
    run(host, "a", "print('new')")
    (host.folder / "a" / "go").touch()
    host.wait(request, ScriptEnded)
    assert (printed(host, "a"), printed(host, "old")) == ("new\n", "late\n")


def test_dropping_a_workspace_also_ends_what_waits_in_it(host: WorkerProcess) -> None:
    first = start(host, "a", STUCK)
    second = start(host, "a", "while True: pass")
    eventually((host.folder / "a" / "begun").exists)
    host.ask(DropWorkspace(workspace="a"), Done)
    (host.folder / "a" / "go").touch()
    host.wait(first, ScriptEnded)
    assert host.wait(second, ScriptEnded).state is JobState.CANCELLED


@pytest.mark.parametrize("script", UNTELLABLE.values(), ids=UNTELLABLE)
def test_an_exception_that_is_hard_to_report_ends_no_thread(host: WorkerProcess, script: str) -> None:
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
    open_workspace(host, "b")
    start(host, "a", "import builtins, time\ndel builtins.isinstance\nopen('begun', 'w').close()\ntime.sleep(100)")
    eventually((host.folder / "a" / "begun").exists)
    start(host, "b", "x = 1")
    assert host.process.wait(10) < 0


def test_a_host_whose_line_is_closed_by_a_script_ends_at_once(host: WorkerProcess) -> None:
    start(host, "a", "import os\nos.closerange(3, 4000)")
    assert host.process.wait(10) == os.EX_IOERR


def test_a_host_stops_on_request_and_refuses_what_is_not_for_it(host: WorkerProcess) -> None:
    assert host.ask(Predict(requests=[]), Failed).failure.code == "invalid"
    run(host, "a", "x = 1")
    assert host.stop() == 0


# --- what belongs to a workspace though a process has it once

EVERY_WAY_TO_PRINT = """
import concurrent.futures, ctypes, logging, multiprocessing, os, subprocess, sys, threading, warnings
from multiprocessing.pool import ThreadPool

def say(word):
    print(word, flush=True)

class Teller:
    def __del__(self):
        say('finalizer')

threads = [threading.Thread(target=say, args=['thread']), threading.Timer(0, say, ['timer'])]
for thread in threads: thread.start(); thread.join()
nested = threading.Thread(target=lambda: concurrent.futures.ThreadPoolExecutor(1).submit(say, 'nested pool').result())
nested.start(); nested.join()
with concurrent.futures.ThreadPoolExecutor(1) as pool: pool.submit(say, 'executor').result()
with ThreadPool(1) as pool: pool.map(say, ['thread pool'])
for method in ('fork', 'spawn', 'forkserver'):
    process = multiprocessing.get_context(method).Process(target=print, args=[f'{method} process'])
    process.start(); process.join()
subprocess.run(['echo', 'subprocess'])
subprocess.run('echo subprocess stderr >&2', shell=True, stderr=subprocess.STDOUT)
subprocess.run(['echo', 'given stream'], stdout=sys.stdout)
subprocess.run(['echo', 'swapped'], stdout=sys.stderr)
os.system('echo system')
os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'echo posix_spawn'], os.environ), 0)
os.spawnlp(os.P_WAIT, 'echo', 'echo', 'spawnlp')
if (pid := os.fork()) == 0:
    os.write(1, b'fork\\n')
    os._exit(0)
os.waitpid(pid, 0)
os.write(sys.stdout.fileno(), b'fileno\\n')
sys.__stdout__.write('dunder\\n')
sys.stdout.writelines(['writelines\\n'])
callback = ctypes.CFUNCTYPE(None)(lambda: say('callback'))
library = ctypes.CDLL(None)
identifier = ctypes.c_ulong()
library.pthread_create(ctypes.byref(identifier), None, callback, None)
library.pthread_join(identifier, None)
Teller()
logging.basicConfig(force=True)
logging.warning('logging')
warnings.warn('warning')
threading.Thread(target=lambda: 1 / 0, name='failing').start()
"""
ON_STDOUT = {
    "thread", "timer", "nested pool", "executor", "thread pool", "fork process", "spawn process", "subprocess",
    "subprocess stderr", "given stream", "system", "posix_spawn", "spawnlp", "fork", "fileno", "dunder", "writelines",
    "callback", "finalizer", "forkserver process",
}  # fmt: skip


def test_whatever_prints_for_a_script_prints_to_its_own_output(host: WorkerProcess) -> None:
    wait = "import os, time\nopen('begun', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.001)\n"
    other = start(host, "b", wait)
    eventually((host.folder / "b" / "begun").exists)
    assert run(host, "a", EVERY_WAY_TO_PRINT).state is JobState.SUCCEEDED
    assert set(printed(host, "a").splitlines()) == ON_STDOUT
    eventually(lambda: "ZeroDivisionError" in printed(host, "a", 2))
    errors = printed(host, "a", 2)
    assert all(word in errors for word in ("WARNING:root:logging", "UserWarning: warning", "swapped\n"))
    (host.folder / "b" / "go").touch()
    host.wait(other, ScriptEnded)
    assert (printed(host, "b"), printed(host, "b", 2), host.stdout()) == ("", "", "")


C_PRINTS = (
    "import os, ctypes\nprint('one')\nos.write(1, b'two\\n')\nctypes.CDLL(None).puts(b'three')\nos.write(2, b'err')"
)


def test_what_c_code_prints_belongs_to_the_job_that_runs_alone(host: WorkerProcess) -> None:
    run(host, "a", C_PRINTS)
    assert (printed(host, "a"), printed(host, "a", 2)) == ("one\ntwo\nthree\n", "err")
    first = start(host, "a", MEET.format(me="a", other="b") + "print('last')")
    second = start(host, "b", MEET.format(me="b", other="a") + C_PRINTS + "\nopen('done', 'w').close()")
    for request in (first, second):
        host.wait(request, ScriptEnded)
    assert printed(host, "a").endswith("three\nlast\n")
    assert printed(host, "b").startswith("one\n")


def test_each_workspace_has_its_own_streams_and_arguments_in_sys(host: WorkerProcess) -> None:
    replace = (
        "import contextlib, io, sys\nsys.argv.append('mine')\n"
        "with contextlib.redirect_stdout(io.StringIO()) as caught:\n    print('caught')\n    "
    )
    first = start(host, "a", replace + MEET.format(me="a", other="b").replace("\n", "\n    "))
    second = start(host, "b", MEET.format(me="b", other="a") + "import sys\nprint('free')\narguments = sys.argv")
    host.wait(first, ScriptEnded)
    assert left_by(host.wait(second, ScriptEnded))["arguments"] == [""]
    assert left_by(run(host, "a", "text = caught.getvalue()\nprint('later')\narguments = sys.argv")) == {
        "text": "caught\n", "arguments": [""],
    } | {name: each for name, each in read(host, "a").items() if name not in ("text", "arguments")}  # fmt: skip
    assert (printed(host, "a"), printed(host, "b")) == ("later\n", "free\n")


def test_a_stream_that_a_script_puts_in_place_may_write_to_the_old_one(host: WorkerProcess) -> None:
    tee = (
        "import sys\nclass Tee:\n    def __init__(self, old): self.old, self.kept = old, []\n"
        "    def write(self, text): self.kept.append(text); return self.old.write(text)\n"
        "    def flush(self): self.old.flush()\n"
        "sys.stdout = tee = Tee(sys.stdout)\nprint('twice')\nkept = tee.kept"
    )
    assert left_by(run(host, "a", tee))["kept"] == ["twice", "\n"]
    run(host, "a", "print('once')")
    assert printed(host, "a") == "twice\nonce\n"


OWN_MODULE = """
import concurrent.futures, copy, dataclasses, doctest, enum, inspect, multiprocessing, pickle, sys, typing, unittest
from collections import namedtuple

@dataclasses.dataclass
class Node:
    parent: 'typing.Optional[Node]' = None
    count: typing.ClassVar['int'] = 0

class Colour(enum.Enum):
    RED = 1

Pair = namedtuple('Pair', 'x y')

def double(x: 'int') -> 'Node':
    '''
    >>> double(2)
    {result}
    '''
    return 2 * x

class Case(unittest.TestCase):
    def test_double(self):
        self.assertEqual(double({tested}), 4)

if __name__ == '__main__':
    same = [pickle.loads(pickle.dumps(each)) == each for each in (Node(Node()), Colour.RED, Pair(1, 2), Node, double)]
    hints = [typing.get_type_hints(Node)['parent'], typing.get_type_hints(double)['return']]
    hints = hints == [typing.Optional[Node], Node]
    results = []
    for method in ('fork', 'spawn'):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool: results += pool.map(double, [1, 2])
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            results += [pool.submit(double, 3).result(), pool.submit(Pair, 1, 2).result() == Pair(1, 2)]
    tests = unittest.main(exit=False).result
    outcome = [tests.testsRun, len(tests.failures), doctest.testmod().failed]
    own = sys.modules[__name__].__dict__ is globals() and sys.modules['__main__'].double is double
    source = inspect.getsource(double).splitlines()[0]
    of_class = inspect.getsource(Colour).partition("RED")[0].rstrip(" ")
"""


def test_two_workspaces_each_have_a_main_module_that_everything_finds(host: WorkerProcess) -> None:
    scripts = {
        "a": OWN_MODULE.replace("{result}", "4").replace("{tested}", "2"),
        "b": OWN_MODULE.replace("{result}", "5").replace("{tested}", "3"),
    }
    requests = {name: start(host, name, script) for name, script in scripts.items()}
    for name, request in requests.items():
        left = left_by(host.wait(request, ScriptEnded))
        assert left["same"] == [True] * 5
        assert left["hints"] is True
        assert left["results"] == [2, 4, 6, True] * 2
        assert left["outcome"] == ([1, 0, 0] if name == "a" else [1, 1, 1])
        assert (left["own"], left["source"]) == (True, "def double(x: 'int') -> 'Node':")
        assert left["of_class"] == "class Colour(enum.Enum):\n"
    assert "Failed example:" in printed(host, "b")
    assert "Failed example:" not in printed(host, "a")
    assert left_by(run(host, "a", "again = pickle.loads(pickle.dumps(Colour.RED)) is Colour.RED"))["again"] is True
