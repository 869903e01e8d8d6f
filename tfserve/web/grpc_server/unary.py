"""Calls of methods that take one message and return one."""

from __future__ import annotations

from tfserve.errors import TFserveError, TimedOut
from tfserve.web.grpc_server import statuses
from tfserve.web.grpc_server.calls import Cardinality, GrpcCall
from tfserve.web.grpc_server.edge import Edge
from tfserve.web.grpc_server.heads import CallHead
from tfserve.web.grpc_server.messages import PREFIX_BYTES, check_prefix, prefix
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.rpc import Unary


class MessageTimedOut(TimedOut):
    """The message did not arrive in time (body_timeout_s, and 1 s for each MiB received)."""


class UnaryCall(GrpcCall):
    """Begins when the message is complete."""

    __slots__ = ("_answers", "_data")

    def __init__(self, connection: Outgoing, stream_id: int, head: CallHead, edge: Edge, answers: Unary) -> None:
        super().__init__(connection, stream_id, head, edge)
        self._answers = answers
        #: the message with its prefix
        self._data: bytes | bytearray = b""

    @property
    def received_bytes(self) -> int:
        return len(self._data)

    def on_begin(self) -> None:
        super().on_begin()
        if self._is_over:
            return
        if self._refusal is not None:  # without a token, no message is received
            self.start()
        else:
            self._edge.incomplete.add(self)

    def on_data(self, data: bytes) -> None:
        if self._is_over or self._refusal is not None:
            return
        if not self._data:  # nearly always all of it
            self._data = data
        elif isinstance(self._data, bytes):
            self._data = bytearray(self._data) + data
        else:
            self._data += data
        if not self.is_remote_closed:
            self._check()
            if not self._is_over:
                self.take(len(data))

    def on_end(self) -> None:
        if self._is_over or self._refusal is not None:
            return
        self._check()
        if not self._is_over:
            self._edge.incomplete.remove(self)
            self.start()

    def late(self) -> None:
        """The message did not arrive in time."""
        self.refuse(MessageTimedOut())

    def _check(self) -> None:
        """Refuses what is too long as soon as that is known, and a wrong number of messages."""
        given = len(self._data)
        try:
            if given >= PREFIX_BYTES:
                flag, size = prefix.unpack_from(self._data)
                check_prefix(flag, size, self.limit)
                if not self.is_remote_closed:  # before more of it is received
                    self.count_bytes(size)
                if given > PREFIX_BYTES + size:
                    raise Cardinality(path=self.method.path, given="several")
                if given == PREFIX_BYTES + size:
                    return
            if self.is_remote_closed:
                raise Cardinality(path=self.method.path, given="a part of one" if given else "none")
        except TFserveError as error:
            self.refuse(error)

    def _leave(self) -> None:
        self._edge.incomplete.remove(self)
        super()._leave()

    async def run(self) -> None:
        if self._refusal is not None:
            await self.admit(0)
        flag, data = self._data[0], bytes(memoryview(self._data)[PREFIX_BYTES:])
        self._data = b""
        await self.admit(len(data))
        request = await self.read(data, flag)
        response = (await self._answers.answer(request, self)).SerializeToString()
        message = prefix.pack(0, len(response)) + response
        self.respond(statuses.RESPONSE_HEAD, message, statuses.ok(self.request_id))
