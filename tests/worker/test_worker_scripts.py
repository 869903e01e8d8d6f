"""A worker that runs the scripts of one workspace: what a script sees, and what it can't break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import UNTELLABLE, WorkerProcess, ended_by, eventually, is_alive

from tfserve.errors import Failure
from tfserve.ipc.messages import ClearVariables, Failed, JobState, Predict, ReadVariables, ScriptEnded


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    process = WorkerProcess(tmp_path_factory.mktemp("lasting"))
    process.become_scripts()
    yield process
    process.end()


@pytest.fixture
def shared(lasting: WorkerProcess) -> WorkerProcess:
    """One worker for all tests that leave it as they found it."""
    lasting.begin_again()
    return lasting


def error_of(ended: ScriptEnded) -> Failure:
    assert ended.error is not None
    return Failure(**json.loads(ended.error))


def variables_of(ended: ScriptEnded) -> dict[str, Any]:
    return json.loads(ended.variables)


def succeeded(ended: ScriptEnded) -> dict[str, Any]:
    assert ended.state is JobState.SUCCEEDED, ended.error
    return variables_of(ended)


# --- what a script sees


def test_variables_last_from_job_to_job(shared: WorkerProcess) -> None:
    shared.run("x = 1")
    assert succeeded(shared.run("y = x + 1")) == {"x": 1, "y": 2}


def test_clear_forgets_all_variables(shared: WorkerProcess) -> None:
    shared.run("x = 1")
    assert succeeded(shared.run("y = 2", clear=True)) == {"y": 2}
    shared.ask(ClearVariables(workspace="w"))
    assert shared.read() == {}
    assert error_of(shared.run("y")).type == "NameError"


def test_a_text_runs_as_main_without_a_file(shared: WorkerProcess) -> None:
    script = (
        "import sys\nis_main = sys.modules['__main__'].__dict__ is globals()\n"
        "seen = [__name__, '__file__' in globals(), sys.path[0], is_main]"
    )
    assert succeeded(shared.run(script))["seen"] == ["__main__", False, "", True]


def test_a_file_runs_as_python_would_run_it(shared: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("value = 42")
    file = tmp_path / "program.py"
    file.write_bytes(
        b"# coding: latin-1\nimport sys, neighbour\numlaut = '\xfc'\n"
        b"seen = [__file__, sys.argv, sys.path[0], neighbour.value]\n"
    )
    seen = succeeded(shared.run(file=str(file)))
    assert seen["seen"] == [str(file), [str(file)], str(tmp_path), 42]
    assert seen["umlaut"] == "\xfc"
    assert succeeded(shared.run("import sys\nfiles = ['__file__' in globals(), sys.path[0]]"))["files"] == [False, ""]


def test_what_a_script_registers_for_its_exit_runs_at_the_end_of_its_job(shared: WorkerProcess) -> None:
    script = (
        "import atexit\nseen = []\natexit.register(seen.append, 'first registered')\n"
        "@atexit.register\ndef bad(): raise ValueError('in a handler')\n"
        "@atexit.register\ndef dropped(): seen.append('dropped')\natexit.unregister(dropped)\n"
        "atexit.register(seen.append, *['last registered'])\nseen.append('end')\n"
    )
    assert succeeded(shared.run(script))["seen"] == ["end", "last registered", "first registered"]
    assert succeeded(shared.run("pass"))["seen"] == ["end", "last registered", "first registered"]
    assert error_of(shared.run(script + "raise SystemExit(3)")).message == "The script exited with status 3."
    assert shared.read()["seen"] == ["end", "last registered", "first registered"]


def test_a_hook_for_exceptions_gets_that_of_its_own_job_only(shared: WorkerProcess) -> None:
    script = (
        "import sys\ndef hook(type_, error, trace):\n"
        "    global seen\n    seen = [type_.__name__, str(error), trace.tb_frame.f_globals is globals()]\n"
        "sys.excepthook = hook\n"
    )
    failed = shared.run(script + "1 / 0")
    assert error_of(failed).type == "ZeroDivisionError"
    assert variables_of(failed)["seen"] == ["ZeroDivisionError", "division by zero", True]
    assert variables_of(shared.run("seen = None\n[][0]"))["seen"] is None
    exits = shared.run(script + "seen = 'unchanged'\nraise SystemExit('stopped')")
    assert variables_of(exits)["seen"] == "unchanged"
    assert error_of(shared.run(script.replace("global seen", "raise KeyError") + "1 / 0")).type == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("sys.exit(0)", ""),
        ("sys.exit('a text')", "a text\n"),
        ("raise KeyboardInterrupt", "Error in sys.excepthook:\n"),
        ("del sys.stderr; raise ValueError", ""),
    ],
)
def test_a_hook_that_exits_or_fails_leaves_the_error_to_the_job(shared: WorkerProcess, ending: str, says: str) -> None:
    script = (
        "import atexit, sys\nran = []\natexit.register(ran.append, 1)\n"
        f"def hook(*_):\n    {ending}\nsys.excepthook = hook\n1 / 0"
    )
    failed = shared.run(script)
    assert (failed.state, error_of(failed).type) == (JobState.FAILED, "ZeroDivisionError")
    assert variables_of(failed)["ran"] == [1]
    assert shared.stderr().startswith(says)
    assert "ZeroDivisionError" not in shared.stderr()


RAISING = """
import atexit
ran = []
class Shy:
    def __call__(self): raise ValueError
    def __repr__(self): raise SystemExit
@atexit.register
def last(): ran.append("last")
atexit.register(Shy())
@atexit.register
def interrupts(): raise KeyboardInterrupt
@atexit.register
def exits(): raise SystemExit(3)
"""


def test_nothing_that_an_exit_function_raises_counts_for_the_job(shared: WorkerProcess) -> None:
    assert succeeded(shared.run(RAISING))["ran"] == ["last"]
    assert "atexit callback: <function interrupts" in shared.stderr()
    assert error_of(shared.run(RAISING + "1 / 0")).type == "ZeroDivisionError"
    assert shared.read("ran") == {"ran": ["last"]}


def test_an_interrupt_ends_an_exit_function_and_forgets_the_others(shared: WorkerProcess) -> None:
    request = shared.start(
        "import atexit, weakref\nran = []\nclass Held: pass\nheld = Held()\nheld_by = weakref.ref(held)\n"
        "atexit.register(ran.append, held)\ndel held\n"
        "@atexit.register\ndef endless():\n    open('started', 'w').close()\n    while True: pass\n"
    )
    eventually((shared.folder / "started").exists)
    shared.interrupt()
    assert shared.wait(request, ScriptEnded).state is JobState.CANCELLED
    assert succeeded(shared.run("left = [ran, held_by() is None]"))["left"] == [[], True]


def test_exit_functions_of_code_that_a_script_runs_are_its_own(shared: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import atexit\natexit.register(seen.append, __name__)")
    (tmp_path / "imported_for_exits.py").write_text(
        "import atexit\natexit.register(print, 'not while the process goes on')"
    )
    script = (
        f"import runpy, sys\nseen = []\nprogram = {str(tmp_path / 'program.py')!r}\n"
        "for name in ('__main__', 'other'):\n    runpy.run_path(program, {'seen': seen}, name)\n"
        "exec(open(program).read(), {'seen': seen, '__name__': 'executed'})\n"
        f"sys.path.append({str(tmp_path)!r})\nimport imported_for_exits\nsys.path.pop()"
    )
    assert succeeded(shared.run(script))["seen"] == ["executed", "other", "__main__"]
    assert succeeded(shared.run("pass"))["seen"] == ["executed", "other", "__main__"]
    assert shared.stdout() == ""


def test_a_library_can_unregister_what_a_script_has_registered(shared: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "closable.py").write_text(
        "import atexit\nclosed = []\ndef close():\n    closed.append(1)\n    atexit.unregister(close)\n"
    )
    script = (
        f"import atexit, sys\nsys.path.append({str(tmp_path)!r})\nimport closable\nsys.path.pop()\n"
        "atexit.register(closable.close)\natexit.register(closable.close)\n"
        "class Picky:\n    def __call__(self): closable.closed.append(2)\n"
        "    def __eq__(self, other):\n        atexit.register(closable.closed.append, 3)\n        return False\n"
        "atexit.register(Picky())\nclosable.close()"
    )
    succeeded(shared.run(script))
    assert succeeded(shared.run("closed = closable.closed"))["closed"] == [1, 3, 2]


def test_every_job_starts_in_the_folder_of_the_workspace(shared: WorkerProcess) -> None:
    shared.run("import os\nos.chdir('/')")
    assert succeeded(shared.run("here = os.getcwd()"))["here"] == str(shared.folder)


def test_paths_that_a_script_adds_for_imports_stay(worker: WorkerProcess) -> None:
    worker.run("import sys\nsys.path.insert(0, '/first')\nsys.path.append('/last')")
    path = succeeded(worker.run("path = sys.path"))["path"]
    assert path[0] == ""
    assert path[1] == "/first"
    assert path[-1] == "/last"
    assert path.count("") == 1


def test_functions_can_be_pickled_and_run_in_child_processes(shared: WorkerProcess, tmp_path: Path) -> None:
    file = tmp_path / "parallel.py"
    file.write_text(
        "import multiprocessing\n\ndef double(x):\n    return 2 * x\n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n        doubled = pool.map(double, [1, 2])\n"
    )
    assert succeeded(shared.run(file=str(file)))["doubled"] == [2, 4]


SPAWNING = (
    "import multiprocessing, concurrent.futures, collections\nPair = collections.namedtuple('Pair', 'x y')\n"
    "def double(x):\n    return 2 * x\n\nif __name__ == '__main__':\n"
    "    context = multiprocessing.get_context('spawn')\n"
    "    with context.Pool(1) as pool:\n        doubled = pool.map(double, [1, 2])\n"
    "    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:\n"
    "        pair = pool.submit(Pair, 1, 2).result() == Pair(1, 2)\n"
    "        try:\n            pool.submit(double, None).result()\n"
    "        except TypeError as error:\n            told = str(error.__cause__)\n"
)


def test_a_spawn_pool_of_a_text_job_finds_its_functions_and_shows_their_lines(shared: WorkerProcess) -> None:
    left = succeeded(shared.run(SPAWNING))
    assert (left["doubled"], left["pair"]) == ([2, 4], True)
    assert 'File "<job 0>", line 4, in double\n    return 2 * x' in left["told"]
    unguarded = SPAWNING.replace("__name__ == '__main__'", "True")
    assert succeeded(shared.run(unguarded))["doubled"] == [2, 4]


@pytest.mark.parametrize("sign", ["\f", "\v", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_lines_of_a_text_end_where_the_compiler_ends_them(shared: WorkerProcess, sign: str) -> None:
    script = (
        f"text = '''one{sign}two'''\nimport inspect\ndef f():\n    return 'f'\nsource = inspect.getsource(f)\n1 / 0\n"
    )
    ended = shared.run(script.replace("\n", "\r\n" if sign == "\f" else "\n"))
    assert variables_of(ended)["source"] == "def f():\n    return 'f'\n"
    assert "line 6, in <module>\n    1 / 0" in (error_of(ended).traceback or "")


CLASSES = """
import dataclasses, inspect
@dataclasses.dataclass
class Point:
    x: int = 0
class Shape(Point):
    def area(self):
        return self.x
sources = [inspect.getsource(each) for each in (Point, Shape, Shape.area)]
"""


def test_the_source_of_a_class_in_a_text_is_found(shared: WorkerProcess) -> None:
    sources = succeeded(shared.run(CLASSES))["sources"]
    point, shape = "@dataclasses.dataclass\nclass Point:\n    x: int = 0\n", CLASSES[CLASSES.index("class Shape") :]
    assert sources == [point, shape.partition("sources")[0], "    def area(self):\n        return self.x\n"]
    later = "class Point:\n    y = 1\nsources = [inspect.getsource(each) for each in (Point, Shape)]"
    assert succeeded(shared.run(later))["sources"] == ["class Point:\n    y = 1\n", shape.partition("sources")[0]]


def test_a_byte_order_mark_is_no_part_of_a_script(shared: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "marked.py").write_bytes(b"\xef\xbb\xbfx = '\xc3\xbc'\r\n")
    assert succeeded(shared.run("\ufeffx = 'ü'")) == {"x": "ü"}
    assert succeeded(shared.run(file=str(tmp_path / "marked.py"), clear=True)) == {"x": "ü"}


# --- how a script fails


def test_a_failure_has_the_script_s_own_lines_and_none_of_ours(shared: WorkerProcess) -> None:
    ended = shared.run("def f():\n    return 1 / 0\n\nf()")
    assert ended.state is JobState.FAILED
    error = error_of(ended)
    assert (error.code, error.type, error.message) == ("script_error", "ZeroDivisionError", "division by zero")
    assert error.traceback is not None
    assert 'File "<job 0>", line 4, in <module>' in error.traceback
    assert "line 2, in f\n    return 1 / 0" in error.traceback
    assert "tfserve" not in error.traceback


def test_after_a_failure_the_variables_set_before_it_are_there(shared: WorkerProcess) -> None:
    assert variables_of(shared.run("x = 1\nboom")) == {"x": 1}


def test_a_function_of_an_earlier_job_shows_its_lines(shared: WorkerProcess) -> None:
    shared.run("def f():\n    raise KeyError('lost')")
    assert '"<job 0>", line 2, in f\n    raise KeyError' in (error_of(shared.run("f()")).traceback or "")


@pytest.mark.parametrize(
    ("script", "kind", "place"),
    [
        ("x = 1\ny = = 2", "SyntaxError", 'File "<job 0>", line 2'),
        ("import not_there_at_all", "ModuleNotFoundError", 'File "<job 0>", line 1'),
        ("x = '\0'", "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError", "null bytes"),
        ("def f(): f()\nf()", "RecursionError", 'File "<job 0>", line 1'),
        ("raise MemoryError", "MemoryError", 'File "<job 0>", line 1'),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", 'File "<job 0>", line 1'),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGINT)", "KeyboardInterrupt", 'File "<job 0>", line 2'),
        ("(" * 10_000, "SyntaxError", "too many nested parentheses"),
        ("class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd", "Odd", "<exception str() failed>"),
    ],
)
def test_a_failure_reports_its_type_and_place(shared: WorkerProcess, script: str, kind: str, place: str) -> None:
    ended = shared.run(script)
    assert ended.state is JobState.FAILED
    error = error_of(ended)
    assert error.type == kind
    assert place in (error.traceback or "")
    assert succeeded(shared.run("x = 1"))["x"] == 1


def test_a_missing_file_is_named(shared: WorkerProcess) -> None:
    error = error_of(shared.run(file="/not/there.py"))
    assert error.type == "FileNotFoundError"
    assert "/not/there.py" in (error.traceback or "")


def test_a_syntax_error_in_a_file_names_file_and_line(shared: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\nif x\n")
    error = error_of(shared.run(file=str(tmp_path / "bad.py")))
    assert f'File "{tmp_path / "bad.py"}", line 2' in (error.traceback or "")
    assert "expected ':'" in error.message


def test_a_long_traceback_and_message_are_bounded(shared: WorkerProcess) -> None:
    error = error_of(shared.run("raise ValueError('x' * 10**7)"))
    assert len(error.message) < 10_000
    assert len(error.traceback or "") <= 64 * 1024
    assert "left out" in (error.traceback or "")


@pytest.mark.parametrize("script", UNTELLABLE.values(), ids=UNTELLABLE)
def test_an_exception_that_is_hard_to_report_fails_its_job_alone(shared: WorkerProcess, script: str) -> None:
    ended = shared.run(f"before = 1\n{script}")
    assert ended.state is JobState.FAILED
    error = error_of(ended)
    assert error.code == "script_error"
    assert error.message
    assert error.type
    assert succeeded(shared.run("x = 1"))["before"] == 1


def test_a_long_chain_of_exceptions_keeps_its_newest_and_is_left_as_it_was(shared: WorkerProcess) -> None:
    error = error_of(shared.run(UNTELLABLE["a long chain"]))
    assert "ValueError: 199999" in (error.traceback or "")
    assert "ValueError: 199950" in (error.traceback or "")
    script = "length = 0\nwhile error is not None: error, length = error.__cause__, length + 1"
    assert succeeded(shared.run(script))["length"] == 200_000


@pytest.mark.parametrize("code", ["", "0", "None", "False"])
def test_an_exit_with_status_zero_succeeds(shared: WorkerProcess, code: str) -> None:
    assert shared.run(f"import sys\nsys.exit({code})").state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("code", "words"),
    [("3", "status 3"), ("'no data'", "status 1: no data"), ("-1", "status 255"), ("2**70", "status 255")],
)
def test_an_exit_with_another_status_fails_with_it(shared: WorkerProcess, code: str, words: str) -> None:
    ended = shared.run(f"import sys\nsys.exit({code})")
    assert ended.state is JobState.FAILED
    assert error_of(ended).type == "SystemExit"
    assert words in error_of(ended).message


# --- what a script can't break


def test_a_script_that_closes_its_streams_does_not_silence_the_next(worker: WorkerProcess) -> None:
    worker.run("import os, sys\nsys.stdout.close()\nos.close(1)\nos.close(2)\nsys.stderr = sys.stdin = None")
    succeeded(worker.run("import sys\nprint('still here')\nprint('here too', file=sys.stderr)\nsys.stdin.read()"))
    assert worker.stdout() == "still here\n"
    assert worker.stderr() == "here too\n"


def test_what_is_printed_without_a_newline_or_from_c_is_written_at_the_end(worker: WorkerProcess) -> None:
    worker.run("import ctypes\nctypes.CDLL(None).printf(b'from C')\nprint('partly', end='')\nprint('\\ud800')")
    assert sorted(worker.stdout()) == sorted("from Cpartly\\ud800\n")


def test_sigint_handlers_and_masks_of_a_script_do_not_outlive_it(worker: WorkerProcess) -> None:
    worker.run(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})"
    )
    assert interrupted(worker, "while True: pass").state is JobState.CANCELLED


def test_a_forked_child_that_reaches_the_end_of_the_script_ends_there(worker: WorkerProcess) -> None:
    script = (
        "import os, sys\npid = os.fork()\nif pid == 0:\n    print('child')\n    sys.exit(7)\n"
        "status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert succeeded(worker.run(script))["status"] == 7
    assert worker.stdout() == "child\n"
    assert succeeded(worker.run("x = 1"))["x"] == 1


@pytest.mark.parametrize(
    ("end", "status", "printed"), [("pass", 0, ""), ("1 / 0", 1, "ZeroDivisionError"), ("sys.exit('bye')", 1, "bye")]
)
def test_a_forked_child_ends_as_a_program_would(worker: WorkerProcess, end: str, status: int, printed: str) -> None:
    script = (
        f"import os, sys\npid = os.fork()\nif pid == 0:\n    {end}\n"
        "else:\n    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert succeeded(worker.run(script))["status"] == status
    assert printed in worker.stderr()


def test_a_worker_whose_line_is_closed_by_its_script_ends_at_once_and_says_why(worker: WorkerProcess) -> None:
    worker.start("import os\nos.closerange(3, 4000)")
    assert worker.process.wait(10) == os.EX_IOERR
    assert "its connection to the supervisor was closed" in worker.stderr()


def test_a_worker_does_not_answer_to_what_a_script_has_put_in_place_of_its_line(worker: WorkerProcess) -> None:
    worker.start(
        "import os, socket\nos.closerange(3, 4000)\na, b = socket.socketpair()\n"
        "for fd in range(5, 20): os.dup2(a.fileno(), fd)"
    )
    assert worker.process.wait(10) == os.EX_IOERR


def test_a_forked_child_may_close_all_files(worker: WorkerProcess) -> None:
    script = (
        "import os\npid = os.fork()\nif pid == 0:\n    os.closerange(3, 4000)\n"
        "else:\n    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert succeeded(worker.run(script))["status"] == 0
    assert succeeded(worker.run("x = 1"))["x"] == 1


@pytest.mark.parametrize("name", ["isinstance", "BaseException", "len", "str", "__import__", "__build_class__"])
def test_a_deleted_builtin_is_there_again_for_the_next_script(worker: WorkerProcess, name: str) -> None:
    ended = worker.run(f"import builtins\ndel builtins.{name}")
    assert ended.state is JobState.SUCCEEDED
    assert worker.run(f"print({name})\nclass A: pass").state is JobState.SUCCEEDED


def test_a_trace_function_that_fails_does_not_end_the_worker(worker: WorkerProcess) -> None:
    worker.run("import sys\nsys.settrace(lambda *_: 1 / 0)")
    assert worker.run("x = 1").state is JobState.SUCCEEDED


def test_flushing_a_stream_of_a_script_s_own_may_fail_in_any_way(worker: WorkerProcess) -> None:
    worker.run("import sys\nclass Odd:\n    def flush(self): raise KeyboardInterrupt\nsys.stdout = Odd()")
    assert worker.run("x = 1").state is JobState.SUCCEEDED


def test_an_alarm_that_goes_off_after_its_script_does_not_end_the_worker(worker: WorkerProcess) -> None:
    worker.run(
        "import signal\ndef ring(*_):\n    open('rung', 'w').close()\n    raise TimeoutError\n"
        "signal.signal(signal.SIGALRM, ring)\nsignal.setitimer(signal.ITIMER_REAL, 0.1)"
    )
    eventually((worker.folder / "rung").exists)
    assert worker.run("x = 1").state is JobState.SUCCEEDED


def test_a_handler_that_exits_ends_the_idle_worker(worker: WorkerProcess) -> None:
    worker.run("import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))")
    worker.process.terminate()
    assert worker.process.wait(10) == os.EX_SOFTWARE


def test_an_os_exit_ends_the_worker_with_that_status(worker: WorkerProcess) -> None:
    worker.start("import os\nos._exit(9)")
    assert worker.process.wait(10) == 9


def test_a_thread_may_continue_after_its_script(worker: WorkerProcess) -> None:
    worker.run(
        "import threading\ngo = threading.Event()\nthreading.Thread(target=lambda: (go.wait(), print('late'))).start()"
    )
    worker.run("go.set()")
    eventually(lambda: worker.stdout() == "late\n")


# --- interrupts


def interrupted(worker: WorkerProcess, script: str) -> ScriptEnded:
    """How the script ends that is interrupted as soon as it has begun."""
    begun = worker.folder / "begun"
    request = worker.start(f"open('begun', 'w').close()\n{script}")
    eventually(begun.exists)
    begun.unlink()
    worker.interrupt()
    return worker.wait(request, ScriptEnded)


@pytest.mark.parametrize(
    "script",
    [
        "import time\ntime.sleep(100)",
        "while True: pass",
        "import subprocess\nsubprocess.run(['sleep', '100'])",
        "import threading\nthreading.Event().wait()",
    ],
)
def test_an_interrupt_ends_a_script_wherever_it_is(worker: WorkerProcess, script: str) -> None:
    ended = interrupted(worker, script)
    assert ended.state is JobState.CANCELLED
    assert error_of(ended).code == "cancelled"
    assert "KeyboardInterrupt" in (error_of(ended).traceback or "")
    assert "tfserve" not in (error_of(ended).traceback or "")
    assert worker.run("x = 1").state is JobState.SUCCEEDED


def test_a_script_may_clean_up_when_it_is_interrupted(worker: WorkerProcess) -> None:
    ended = interrupted(worker, "import time\ntry:\n    time.sleep(100)\nfinally:\n    cleaned = True")
    assert ended.state is JobState.CANCELLED
    assert variables_of(ended)["cleaned"] is True


def test_a_script_that_swallows_the_interrupt_has_not_been_cancelled(worker: WorkerProcess) -> None:
    ended = interrupted(worker, "import time\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    caught = True")
    assert succeeded(ended)["caught"] is True


def test_an_interrupt_that_overtakes_its_job_in_the_queue_is_not_lost(worker: WorkerProcess) -> None:
    first = worker.start("import time\nwhile not __import__('os').path.exists('go'): time.sleep(0.001)")
    second = worker.start("never = True")
    worker.interrupt()
    (worker.folder / "go").touch()
    assert worker.wait(first, ScriptEnded).state is JobState.SUCCEEDED
    ended = worker.wait(second, ScriptEnded)
    assert ended.state is JobState.CANCELLED
    assert "never" not in variables_of(ended)


def test_an_interrupt_for_a_job_that_has_ended_touches_nobody(worker: WorkerProcess) -> None:
    worker.run("x = 1")
    worker.interrupt(job=0)
    assert succeeded(worker.run("import time\ntime.sleep(0.02)"))["x"] == 1


def test_interrupts_that_race_with_the_end_of_jobs_never_hit_the_worker(worker: WorkerProcess) -> None:
    states = set()
    for n in range(200):
        request = worker.start(f"for _ in range({(n % 20) ** 3 * 30}): pass")
        worker.interrupt()
        worker.interrupt()
        ended = worker.wait(request, ScriptEnded)
        assert ended.state in (JobState.SUCCEEDED, JobState.CANCELLED), ended.error
        states.add(ended.state)
    assert JobState.CANCELLED in states
    assert worker.run("x = 1").state is JobState.SUCCEEDED


def test_the_conversion_of_variables_can_be_interrupted(worker: WorkerProcess) -> None:
    worker.run("kept = 1")
    ended = interrupted(
        worker,
        "class Endless:\n    def __str__(self):\n        while True: pass\nvalue = Endless()\n",
    )
    assert ended.state is JobState.CANCELLED
    assert variables_of(ended) == {"kept": 1}


def test_the_reading_of_variables_can_be_interrupted(worker: WorkerProcess) -> None:
    worker.run(
        "import os\nclass Endless:\n    def __str__(self):\n"
        "        while os.path.exists('endless'): open('reading', 'w').close()\n        return 'x'\nvalue = Endless()"
    )
    (worker.folder / "endless").touch()
    request = worker.send(ReadVariables(workspace="w", names=["value"], limit_bytes=1000))
    eventually((worker.folder / "reading").exists)
    worker.interrupt(job=-1)
    assert worker.wait(request, Failed).failure.code == "timed_out"
    (worker.folder / "endless").unlink()
    assert worker.read("value") == {"value": "x"}


def test_a_cancelled_script_takes_the_processes_it_started_along(worker: WorkerProcess) -> None:
    before = succeeded(worker.run("import subprocess\nold = subprocess.Popen(['sleep', '100'])\npid = old.pid"))["pid"]
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import os, time; os.fork(); time.sleep(100)'])\n"
        "new = child.pid\nopen('started', 'w').close()\nwhile True: pass"
    )
    request = worker.start(script)
    eventually((worker.folder / "started").exists)
    worker.interrupt()
    ended = worker.wait(request, ScriptEnded)
    assert ended.state is JobState.CANCELLED
    eventually(lambda: not is_alive(variables_of(ended)["new"]))
    assert is_alive(before)


# --- variables


def test_only_what_scripts_have_set_is_a_variable(shared: WorkerProcess) -> None:
    ended = shared.run("__hidden__ = 1\nglobals()[7] = 2\n_shown = 3\nannotated: int = 4")
    assert succeeded(ended) == {"_shown": 3, "annotated": 4}


def test_the_snapshot_is_bounded_and_summarises_what_does_not_fit(shared: WorkerProcess) -> None:
    ended = shared.run(
        "import numpy\na = numpy.zeros((3000, 1000))\nb = list(range(10**6))\nc = 'ok'\nd = {'x': 'y' * 2**21}"
    )
    found = succeeded(ended)
    assert len(ended.variables) <= 2**20
    assert found["c"] == "ok"
    assert found["a"]["summary"] is True
    assert (found["a"]["shape"], found["a"]["dtype"], found["a"]["values"]) == ([3000, 1000], "float64", [0.0] * 5)
    assert (found["b"]["type"], found["b"]["length"], found["b"]["values"]) == ("list", 10**6, [0, 1, 2, 3, 4])
    assert found["d"]["type"] == "dict"


def test_each_variable_has_its_python_type(shared: WorkerProcess) -> None:
    ended = shared.run(
        "import collections, numpy, tensorflow as tf\n"
        "a, t, pair, raw = numpy.zeros((3, 2), 'f4'), tf.ones([4]), (1, 2), b'xyz'\n"
        "point = collections.namedtuple('Point', 'x')(1)\n"
        "class Lazy:\n    def __len__(self): raise AssertionError('counting takes long')\n"
        "lazy, nan = Lazy(), float('nan')"
    )
    found = json.loads(ended.types)
    assert found["a"] == {"type": "ndarray", "shape": [3, 2], "dtype": "float32"}
    assert found["t"] == {"type": "EagerTensor", "shape": [4], "dtype": "float32"}
    assert (found["pair"], found["raw"]) == ({"type": "tuple", "length": 2}, {"type": "bytes", "length": 3})
    assert (found["point"], found["lazy"], found["nan"]) == ({"type": "Point"}, {"type": "Lazy"}, {"type": "float"})
    assert (found["numpy"], found["Lazy"]) == ({"type": "module"}, {"type": "type"})


def test_the_types_are_bounded_however_many_variables_there_are(shared: WorkerProcess) -> None:
    ended = shared.run("for n in range(30000): globals()[f'name{n}'] = 1")
    assert len(ended.types) <= 2**18
    assert json.loads(ended.types)["name0"] == {"type": "int"}


def test_the_snapshot_is_bounded_however_many_variables_there_are(shared: WorkerProcess) -> None:
    ended = shared.run("for n in range(30000): globals()[f'name{n}'] = 'x' * 100")
    assert ended.state is JobState.SUCCEEDED
    assert len(ended.variables) <= 2**20
    json.loads(ended.variables)


def test_strange_values_become_json_or_a_sentence(shared: WorkerProcess) -> None:
    found = succeeded(
        shared.run(
            "nan = float('nan')\nraw = b'\\xff'\nloop = []\nloop.append(loop)\n"
            "class Rude:\n    def __repr__(self): raise ValueError\nrude = Rude()\n"
            "class Nosy:\n    @property\n    def __class__(self): raise ValueError\n"
            "    def __len__(self): return -1\nnosy = [Nosy()]"
        )
    )
    assert found["nan"] is None
    assert found["raw"] == {"b64": "/w=="}
    assert found["loop"] == ["<circular reference to list>"]
    assert found["rude"] == "<Rude whose str() raised ValueError>"


ODD_VALUES = (
    "class Meta(type):\n    @property\n    def __name__(self): raise KeyboardInterrupt\n"
    "class Str:\n    def __str__(self): raise KeyboardInterrupt\n"
    "class Named(metaclass=Meta):\n    def __str__(self): raise KeyboardInterrupt\n"
    "class Long(list):\n    def __len__(self): raise SystemExit\n"
    "class Name(str):\n    def startswith(self, _): raise KeyboardInterrupt\n"
    "a, b, c, after = Str(), Named(), [Long()], 1\nglobals()[Name('d')] = 2"
)


def test_a_value_whose_code_raises_anything_costs_only_itself(shared: WorkerProcess) -> None:
    found = succeeded(shared.run(ODD_VALUES))
    assert found["a"] == "<Str whose str() raised KeyboardInterrupt>"
    assert found["b"] == "<Named whose str() raised KeyboardInterrupt>"
    assert (found["c"], found["after"], found["d"]) == (["[]"], 1, 2)
    assert shared.read("a", "after") == {"a": "<Str whose str() raised KeyboardInterrupt>", "after": 1}


def test_full_values_are_read_by_name_and_unknown_names_are_null(shared: WorkerProcess) -> None:
    shared.run("big = list(range(500_000))\nsmall = 1")
    assert shared.read("big", "nothing") == {"big": list(range(500_000)), "nothing": None}
    assert set(shared.read()) == {"big", "small"}


def test_a_value_beyond_the_limit_is_refused_with_name_size_and_advice(shared: WorkerProcess) -> None:
    shared.run("import numpy\nbig = numpy.zeros((500, 20))")
    failed = shared.ask(ReadVariables(workspace="w", names=["big"], limit_bytes=1000), Failed)
    assert failed.failure.code == "too_large"
    assert "'big', a ndarray of shape [500, 20]" in failed.failure.message
    assert "slice" in failed.failure.message


# --- the worker's own life


def test_a_worker_stops_on_request_and_exits_with_zero(worker: WorkerProcess) -> None:
    child = succeeded(worker.run("import subprocess\npid = subprocess.Popen(['sleep', '100']).pid"))["pid"]
    assert worker.stop() == 0
    assert not is_alive(child)


def test_when_the_supervisor_hangs_up_the_whole_group_is_gone(worker: WorkerProcess) -> None:
    script = (
        "import os, time\nif os.fork() == 0:\n    if os.fork() == 0:\n        os.setsid()\n"
        "        open('orphan', 'w').write(str(os.getpid()) + '.')\n        time.sleep(100)\n    os._exit(0)\n"
        "while True: pass"
    )
    worker.start(script)
    orphan = worker.folder / "orphan"
    eventually(lambda: orphan.exists() and orphan.read_text().endswith("."))
    worker.hang_up()
    assert ended_by(worker.process) == signal.SIGKILL
    eventually(lambda: not is_alive(int(orphan.read_text().rstrip("."))))


ORPHANING = """
import ctypes, os, sys
from pathlib import Path
from worker_process import WorkerProcess, eventually
worker = WorkerProcess(Path(sys.argv[1]))
worker.become_scripts()
worker.start("open('begun', 'w').close()\\nimport ctypes\\nctypes.PyDLL(None).sleep(100)")
eventually((Path(sys.argv[1]) / "begun").exists)
print(worker.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_worker_dies_with_its_parent_even_when_no_python_code_can_run(tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}:{here}"}
    command = [sys.executable, "-c", ORPHANING, tmp_path]
    parent = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
    eventually(lambda: not is_alive(int(parent.stdout)))


def test_a_question_that_is_not_for_it_is_refused(worker: WorkerProcess) -> None:
    assert worker.ask(Predict(requests=[]), Failed).failure.code == "invalid"
