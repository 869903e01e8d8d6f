"""What a job prints: kept up to a limit, complete when the job has ended, and followed while it grows."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from queues import until

from tfserve.supervisor.events import Revision, Signal
from tfserve.supervisor.processes.output import TAIL_BYTES, JobOutput, OutputPipes, last_lines_of


def test_both_streams_are_kept_in_the_order_in_which_they_came_and_each_has_its_end(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "new" / "0.out", 1000)
    for stream, data in ((1, b"a\n"), (2, b"b\n"), (1, b"c\n")):
        output.write(stream, data)
    output.close()
    assert output.path.read_bytes() == b"a\nb\nc\n"
    assert output.path.stat().st_mode & 0o777 == 0o600
    assert (output.tail(1), output.tail(2), output.size) == ("a\nc\n", "b\n", 6)


@pytest.mark.parametrize("printed", [b"", b"epoch 1\n", b"epoch 1"])
def test_what_the_server_says_has_a_line_of_its_own(tmp_path: Path, printed: bytes) -> None:
    output = JobOutput(tmp_path / "0.out", 1000)
    output.write(1, printed)
    output.write_line("continuing")
    output.write(1, b"epoch 2\n")
    output.close()
    assert output.path.read_text().splitlines() == [*printed.decode().splitlines(), "continuing", "epoch 2"]


def test_a_job_that_prints_nothing_has_no_file(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "0.out", 1000)
    output.write(1, b"")
    output.close()
    assert not output.path.exists()
    assert (output.last_lines, last_lines_of(output.path)) == ("", "")


def test_beyond_the_limit_only_the_end_is_kept_and_the_file_says_so_once(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "0.out", 10)
    for _ in range(5):
        output.write(1, b"123456\n")
    output.close()
    assert output.path.read_text() == "123456\n123\n[the output is longer than 10 bytes: the rest is not kept]\n"
    assert output.tail(1) == "123456\n" * 5
    again = JobOutput(output.path, 10, appends=True)
    again.write(1, b"more")
    again.close()
    assert "more" not in output.path.read_text()


def test_the_end_of_each_stream_is_bounded(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "0.out", 10)
    output.write(1, b"x" * TAIL_BYTES + b"end")
    output.close()
    assert len(output.tail(1)) == TAIL_BYTES
    assert output.tail(1).endswith("xend")


def test_a_job_that_continues_keeps_what_it_printed_before_and_another_one_does_not(tmp_path: Path) -> None:
    for appends, text in ((False, b"one\n"), (True, b"two\n"), (False, b"three\n")):
        output = JobOutput(tmp_path / "0.out", 1000, appends=appends)
        output.write(1, text)
        output.close()
        expected = {b"one\n": "one\n", b"two\n": "one\ntwo\n", b"three\n": "three\n"}[text]
        assert output.path.read_text() == expected


def test_the_last_lines_are_those_of_stderr_if_there_are_any_and_show_a_fault(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "0.out", 1000)
    output.write(1, b"out\n")
    assert (output.last_lines, output.shows_fault) == ("out\n", False)
    output.write(2, b"Fatal Python error: Aborted\n")
    output.close()
    assert (output.last_lines, output.shows_fault) == ("Fatal Python error: Aborted\n", True)
    assert last_lines_of(output.path) == "out\nFatal Python error: Aborted\n"


def test_output_that_can_not_be_written_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    output = JobOutput(tmp_path / "file" / "0.out", 1000)
    for _ in range(3):
        output.write(1, b"x\n")
    output.close()
    assert output.tail(1) == "x\n" * 3
    assert caplog.text.count("the output of a job can't be kept") == 1


async def test_whoever_follows_the_output_is_woken_when_it_grows_and_when_it_ends(tmp_path: Path) -> None:
    output = JobOutput(tmp_path / "0.out", 1000)
    for happens in (lambda: output.write(1, b"x"), output.close):
        following = asyncio.ensure_future(output.grew.wait(20))
        await asyncio.sleep(0)
        happens()
        assert await following
    assert not await output.grew.wait(0.01)


async def test_pipes_deliver_to_the_job_that_runs_and_to_the_log_between_jobs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pipes = OutputPipes()
    with pipes.offered() as paths:
        writers = [os.open(path, os.O_WRONLY) for path in paths]
    os.write(writers[0], b"between\n")
    pipes.drain()
    assert "printed between jobs: between" in caplog.text
    pipes.output = output = JobOutput(tmp_path / "0.out", 1000)
    os.write(writers[0], b"out\n")
    os.write(writers[1], b"err\n")
    pipes.drain()
    assert (output.tail(1), output.tail(2)) == ("out\n", "err\n")
    os.write(writers[1], b"later\n")
    await until(lambda: output.tail(2) == "err\nlater\n")
    for writer in writers:
        os.close(writer)
    pipes.drain()
    pipes.drain()
    output.close()


async def test_a_signal_wakes_all_who_wait_once_and_a_revision_counts(tmp_path: Path) -> None:
    signal, revision = Signal(), Revision()
    waiting = [asyncio.ensure_future(signal.wait(20)) for _ in range(3)]
    await asyncio.sleep(0)
    signal.fire()
    signal.fire()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not await signal.wait(0.01), "what happened before is over"
    revision.fire()
    revision.fire()
    assert revision.number == 3
