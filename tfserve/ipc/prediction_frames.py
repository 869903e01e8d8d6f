"""Predictions as frames on a socket. No I/O here.

4 bytes  length of what follows, little-endian
8 bytes  request id, which the response repeats
4 bytes  length of the message
n bytes  the message as msgpack
…        the elements of large tensors, each aligned to 64 bytes from the start of the message; with large tensors, the
         message is in an `Envelope` with their sizes

Large tensors follow the message. So they are sent and received without a copy, aligned for numpy.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import numpy as np

from tfserve.errors import TooLarge
from tfserve.ipc.frames import MAX_FRAME_BYTES, BrokenFrame
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Drop, Refusal, Tensor

HEADER = struct.Struct("<IQI")
AFTER_LENGTH = HEADER.size - 4
ALIGNMENT = 64
LARGE_BYTES = 32 * 1024
BUFFER_BYTES = 256 * 1024

_WITH_TENSORS = (ComputeRequest, ComputeResult)

Prediction = ComputeRequest | Drop | ComputeResult | Refusal


class Envelope(msgspec.Struct, array_like=True):
    """`large` has the size in bytes of each tensor that follows the message, 0 for one inside it."""

    large: tuple[int, ...]
    message: Prediction


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Prediction)
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(request_id: int, message: Prediction) -> list[bytes | memoryview]:
    """A frame in pieces, the large ones being the memory of the tensors. Raises `TooLarge`."""
    if message.__class__ in _WITH_TENSORS:
        for tensor in message.tensors:
            if tensor.data.nbytes >= LARGE_BYTES:
                return _encode_large(request_id, message)
    text = _encoder.encode(message)
    size = len(text)
    return [HEADER.pack(_checked(AFTER_LENGTH + size), request_id, size) + text]


def _encode_large(request_id: int, message: ComputeRequest | ComputeResult) -> list[bytes | memoryview]:
    large = tuple([each.data.nbytes if each.data.nbytes >= LARGE_BYTES else 0 for each in message.tensors])
    inside = tuple([_without_data(each) if size else each for each, size in zip(message.tensors, large, strict=True)])
    text = _encoder.encode(Envelope(large, msgspec.structs.replace(message, tensors=inside)))
    pieces: list[bytes | memoryview] = [text]
    end = len(text)
    for tensor, size in zip(message.tensors, large, strict=True):
        if size:
            pieces += [bytes(-end % ALIGNMENT), tensor.data.cast("B")]
            end = _aligned(end) + size
    return [HEADER.pack(_checked(AFTER_LENGTH + end), request_id, len(text)), *pieces]


class PredictionReader:
    """Assembles messages from pieces: the next bytes go to `room`, `received` returns complete messages."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._filled = 0
        #: a frame that is too large for the buffer, how much of it is there, and its request id and length of message
        self._large: memoryview | None = None
        self._large_filled = 0
        self._large_head = (0, 0)

    def room(self) -> memoryview:
        if self._large is not None:
            return self._large[self._large_filled :]
        return self._buffer[self._filled :]

    def received(self, count: int) -> list[tuple[int, Prediction]]:
        """The (request id, message) pairs that are complete with `count` more bytes. Raises `BrokenFrame`."""
        if self._large is None:
            self._filled += count
            return self._complete()
        self._large_filled += count
        if self._large_filled < len(self._large):
            return []
        frame, (request_id, text) = self._large, self._large_head
        self._large = None
        return [(request_id, _decode(frame, text))]

    def _complete(self) -> list[tuple[int, Prediction]]:
        complete: list[tuple[int, Prediction]] = []
        at, end = 0, self._filled
        while end - at >= HEADER.size:
            length, request_id, text = HEADER.unpack_from(self._buffer, at)
            size = length - AFTER_LENGTH
            if not 0 < text <= size <= MAX_FRAME_BYTES:
                raise BrokenFrame(f"a frame of {length} bytes was announced, with a message of {text}")
            start = at + HEADER.size
            if end - start < size:
                if HEADER.size + size > BUFFER_BYTES:
                    self._begin_large(start, end, size, (request_id, text))
                    return complete
                break
            at = start + size
            complete.append((request_id, _decode(memoryview(self._buffer[start:at].tobytes()), text)))
        if at < end:
            self._buffer[: end - at] = self._buffer[at:end]
        self._filled = end - at
        return complete

    def _begin_large(self, start: int, end: int, size: int, head: tuple[int, int]) -> None:
        self._large = np.empty(size, np.uint8).data  # which is not filled with zeros, as a bytearray is
        self._large_filled = end - start
        self._large[: end - start] = self._buffer[start:end]
        self._large_head = head
        self._filled = 0


def _decode(frame: memoryview, text: int) -> Prediction:
    try:
        if text == len(frame):
            message: Prediction = _decoder.decode(frame)
            return message
        envelope = _envelope_decoder.decode(frame[:text])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(str(error)) from error
    return _with_data(envelope.message, envelope.large, frame, text)


def _with_data(message: Prediction, large: Sequence[int], frame: memoryview, end: int) -> Prediction:
    if not isinstance(message, ComputeRequest | ComputeResult) or len(large) != len(message.tensors):
        raise BrokenFrame("the tensors that follow a message do not match its envelope")
    tensors = []
    for tensor, size in zip(message.tensors, large, strict=True):
        if not size:
            tensors.append(tensor)
            continue
        start = _aligned(end)
        end = start + size
        tensors.append(Tensor(tensor.dtype, tensor.shape, frame[start:end]))
    if end != len(frame):
        raise BrokenFrame(f"the tensors that follow a message end at {end} of {len(frame)} bytes")
    return msgspec.structs.replace(message, tensors=tuple(tensors))


def _without_data(tensor: Tensor) -> Tensor:
    return Tensor(tensor.dtype, tensor.shape, _NOTHING)


def _aligned(end: int) -> int:
    return end + -end % ALIGNMENT


def _checked(length: int) -> int:
    if length > MAX_FRAME_BYTES:
        raise TooLarge(f"a message of {length} bytes is larger than the {MAX_FRAME_BYTES} that processes exchange")
    return length


_NOTHING = memoryview(b"")
