"""Calls of methods that take one message and return one."""

from __future__ import annotations

from tfserve.errors import TFserveError
from tfserve.web.grpc_server import statuses
from tfserve.web.grpc_server.calls import Call, Cardinality
from tfserve.web.grpc_server.edge import Edge
from tfserve.web.grpc_server.heads import Head
from tfserve.web.grpc_server.messages import PREFIX_BYTES, check_prefix, prefix
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.rpc import Unary


class UnaryCall(Call):
    """Begins when the message is complete. It is kept in the pieces in which it arrived."""

    __slots__ = ("_answers", "_is_checked", "_pieces", "_size")

    def __init__(self, connection: Outgoing, stream_id: int, head: Head, edge: Edge, answers: Unary) -> None:
        super().__init__(connection, stream_id, head, edge)
        self._answers = answers
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_checked = False

    def on_data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if not self.is_remote_closed:
            self.take(len(data))
            self._check()

    def on_end(self) -> None:
        if not self._is_checked:
            self._check()
        if not self.is_closed:
            self.start()

    def _check(self) -> None:
        """Refuses what is too long as soon as that is known."""
        if self._size < PREFIX_BYTES:
            if self.is_remote_closed:
                given = "a part of one" if self._size else "none"
                self.refuse(Cardinality(path=self.method.path, given=given))
            return
        if len(self._pieces[0]) < PREFIX_BYTES:
            self._pieces = [b"".join(self._pieces)]
        flag, size = prefix.unpack_from(self._pieces[0])
        try:
            check_prefix(flag, size, self.limit)
            if self._size > PREFIX_BYTES + size:
                raise Cardinality(path=self.method.path, given="several")
            if self._size < PREFIX_BYTES + size and self.is_remote_closed:
                raise Cardinality(path=self.method.path, given="a part of one")
        except TFserveError as error:
            self.refuse(error)
        self._is_checked = self.is_remote_closed

    async def run(self) -> None:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        await self.admit(len(data) - PREFIX_BYTES)
        request = await self.read(data[PREFIX_BYTES:], data[0])
        response = (await self._answers.answer(request, self)).SerializeToString()
        message = prefix.pack(0, len(response)) + response
        self.respond(statuses.RESPONSE_HEAD, message, statuses.ok(self.request_id))
