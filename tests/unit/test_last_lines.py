"""What is kept of the output of a process that died: the end, and the beginning of a fault dump."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfserve.supervisor.processes.last_lines import LastLines

DUMP = (
    "Fatal Python error: Segmentation fault\n\n"
    + "".join(
        f"Thread 0x{n:016x} (most recent call first):\n"
        + '  File "/usr/lib/python3.11/threading.py", line 320 in wait\n' * 30
        for n in range(40)
    )
    + "Current thread 0x00007f0000000000 (most recent call first):\n"
    + '  File "<job 3>", line 7 in guilty\n'
    + '  File "/usr/lib/python3.11/runpy.py", line 88 in _run_code\n' * 60
    + "\nExtension modules: "
    + ", ".join(f"numpy.module{n}" for n in range(200))
    + "\n"
)


def kept(text: str, *, piece: int = 1 << 30) -> str:
    lines = LastLines()
    for start in range(0, len(text), piece):
        lines.add(text[start : start + piece].encode())
    return lines.text()


@pytest.mark.parametrize("piece", [1, 7, 1000, 131072])
def test_a_long_dump_keeps_its_first_line_the_guilty_thread_and_its_end(piece: int) -> None:
    lines = kept("loading\n" * 500 + DUMP, piece=piece).splitlines()
    assert "Fatal Python error: Segmentation fault" in lines
    assert '  File "<job 3>", line 7 in guilty' in lines
    assert lines[-1].endswith("numpy.module199")
    assert "[...]" in lines
    assert len("\n".join(lines)) < 8000


@pytest.mark.parametrize(
    "reason",
    [
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no such kernel",
        "F0000 00:00:17 tensor.cc:882] Check failed: dtype() == expected_dtype (3 vs. 1) int32 expected, got float",
        "double free or corruption (out)",
        "python: assign.c:12: f: Assertion `n > 0' failed.",
        "a library's own words, which no list knows",
    ],
)
def test_the_reason_of_an_abort_is_kept_with_the_dump_that_follows(reason: str) -> None:
    lines = kept("x" * 5000 + f"\n{reason}\n" + DUMP.replace("Segmentation fault", "Aborted"))
    assert f"{reason}\nFatal Python error: Aborted\n" in lines


def test_a_reason_far_before_its_dump_is_kept_as_well() -> None:
    lines = kept("F0000 a.cc:1] Check failed: n == 1\n" + "    @ 0x7f00 frame\n" * 500 + DUMP)
    assert "Check failed: n == 1" in lines
    assert "Fatal Python error: Segmentation fault" in lines


def test_the_last_of_several_dumps_counts() -> None:
    lines = kept(DUMP + "going on\n" * 1000 + DUMP.replace("Segmentation fault", "Bus error"))
    assert "Bus error" in lines
    assert "Segmentation fault" not in lines


def test_short_output_is_kept_as_it_is_and_long_output_by_its_end() -> None:
    assert kept("") == ""
    assert kept("one\ntwo\n") == "one\ntwo\n"
    assert kept("start\n" + DUMP[:1000]) == "start\n" + DUMP[:1000]
    assert kept("a" * 5000) == "a" * 2000


def test_a_real_fault_with_many_threads_keeps_the_signal() -> None:
    script = (
        "import faulthandler, threading\nevent = threading.Event()\n"
        "for _ in range(40): threading.Thread(target=event.wait, daemon=True).start()\nfaulthandler._sigsegv()"
    )
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, check=False)
    assert len(done.stderr) > 8000
    lines = kept(done.stderr.decode())
    assert "Fatal Python error: Segmentation fault" in lines
    assert "Current thread" in lines
