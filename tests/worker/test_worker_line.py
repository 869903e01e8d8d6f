"""The worker's end of its line to the supervisor."""

from __future__ import annotations

import socket

import pytest

from tfserve.ipc import frames
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import Done, Failed, Message


def sent(answer: Message) -> Message:
    """What comes out at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        BlockingConnection(ours).answer(7, answer)
        ((request_id, message),) = frames.FrameReader().feed(theirs.recv(65536))
    assert request_id == 7 | frames.RESPONSE
    return message


def test_an_answer_that_is_too_large_for_a_frame_is_reported_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 1000)
    message = sent(Done(value="x" * 1000))
    assert isinstance(message, Failed)
    assert message.failure.code == "too_large"


def test_an_answer_that_can_t_be_written_is_reported_as_a_failure() -> None:
    message = sent(Done(value="\ud800"))
    assert isinstance(message, Failed)
    assert message.failure.code == "internal"


def test_a_connection_that_was_closed_on_purpose_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        connection = BlockingConnection(ours)
        connection.close()
        connection.answer(1, Done())
        assert theirs.recv(1) == b""


def test_an_answer_to_a_supervisor_that_is_gone_is_dropped() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        connection = BlockingConnection(ours)
        theirs.close()
        connection.answer(1, Done())
