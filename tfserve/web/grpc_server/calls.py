"""A call of a client: its beginning, its end, and what methods may know about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

from google.protobuf.message import Message

from tfserve.access.principals import ANONYMOUS, PRINCIPAL, Principal
from tfserve.errors import Internal, TFserveError, TimedOut, Unsupported
from tfserve.web.grpc_server import messages, statuses
from tfserve.web.grpc_server.edge import CallCount, Edge
from tfserve.web.grpc_server.heads import CallHead, Method
from tfserve.web.http.access_log import Started
from tfserve.web.http.eager_call import EagerCall
from tfserve.web.http2.outgoing import Outgoing
from tfserve.web.http2.streams import Stream
from tfserve.web.rpc import STATUS

log = logging.getLogger(__name__)

CREDENTIALS = (b"authorization", b"x-api-key")
LATE_S = 0.05
"""A method that notices the deadline itself has the better error message, so it gets the time to send it."""

CHECK_AGAIN_S = 1.0
"""The token is checked when a call begins, and again if its message took longer than this."""


class CallTimedOut(TimedOut):
    """The call was not answered before its deadline."""


class Cardinality(Unsupported):
    """{path} takes exactly one message, got {given}."""


class GrpcCall(Stream):
    """What unary and streaming calls have in common. It runs in a task of its own once its message is there."""

    __slots__ = (
        "_checked_at",
        "_count",
        "_deadline",
        "_edge",
        "_has_begun",
        "_is_counted",
        "_is_expired",
        "_is_over",
        "_logged",
        "_loop",
        "_principal",
        "_refusal",
        "_task",
        "_timer",
        "_used",
        "head",
        "is_heavy",
        "request_id",
    )  # fmt: skip

    def __init__(self, connection: Outgoing, stream_id: int, head: CallHead, edge: Edge) -> None:
        super().__init__(connection, stream_id)
        self.head = head
        self.request_id = b""
        self.is_heavy = False
        self._edge = edge
        self._loop = connection.loop
        self._task: asyncio.Task[None] | EagerCall[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._logged: Started | None = None
        self._principal: Principal = ANONYMOUS
        #: why it will be refused, once that may be sent
        self._refusal: TFserveError | None = None
        self._count: CallCount | None = None
        self._checked_at = 0.0
        self._used = 0
        self._has_begun = self._is_over = self._is_expired = self._is_counted = False

    @property
    def method(self) -> Method:
        assert self.head.method is not None
        return self.head.method

    @property
    def limit(self) -> int:
        """The maximum size of a message."""
        most = self._edge.settings.max_body_bytes
        return min(most, messages.PUBLIC_BYTES) if self.method.answers.scope is None else most

    @property
    def timeout_s(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    @property
    def urgency(self) -> int:
        return self.head.urgency

    @property
    def credentials(self) -> Mapping[str, str]:
        known = self.head.metadata
        return {name.decode(): known[name].decode("latin-1") for name in CREDENTIALS if name in known}

    async def run(self) -> None:
        """Answers the call. Raises any error."""
        raise NotImplementedError

    # --- from the beginning to the end

    def on_begin(self) -> None:
        if self.head.error is not None:
            self.refuse(self.head.error)
            return
        edge, method = self._edge, self.method.answers
        try:
            self._principal = edge.sender(self.head, method.scope)
        except TFserveError as error:
            self._refusal = error
        try:
            self._count = edge.count_of(method, self._principal)
            if self._count is not None:
                self._count.enter()
        except TFserveError as error:
            self.refuse(error)
            return
        self._checked_at = self._loop.time()
        if self.head.timeout_s is not None:
            self._deadline = self._loop.time() + self.head.timeout_s
            self._timer = self._loop.call_at(self._deadline + LATE_S, self._expire)

    def on_data(self, data: bytes) -> None:
        """Nothing is kept of a call that was refused at its beginning."""

    def on_end(self) -> None:
        """Nothing is left to do for a call that was refused at its beginning."""

    def start(self) -> None:
        if not self.method.answers.is_eager:
            self._task = self._loop.create_task(self._run())
            return
        abort = self.connection.abort
        self._task = call = EagerCall(self._run(), copy_context(), done=_nothing, failed=abort)
        call.start()

    async def _run(self) -> None:
        self._has_begun = True
        self._identify()
        try:
            await self.run()
            if self.unsent:  # the client has to take the response before the call counts as over
                await self.drained()
        except asyncio.CancelledError:
            self._cancelled()
        except Exception as error:
            self._fail(error)
        finally:
            self._leave()

    def _identify(self) -> None:
        self.request_id, self._logged = self._edge.identify(self.head, self.connection.peer)

    async def admit(self, size: int) -> None:
        """Sets `PRINCIPAL`. Raises `Unauthenticated`, `ScopeRequired`, `Overloaded`."""
        if self._refusal is not None:
            await self._edge.slow_down(self._refusal)
            raise self._refusal
        if self._loop.time() - self._checked_at > CHECK_AGAIN_S:
            self._edge.sender(self.head, self.method.answers.scope)
        PRINCIPAL.set(self._principal)
        self.count_bytes(size)

    def count_bytes(self, size: int) -> None:
        """Counts the message for the limits of the token, once. Raises `Overloaded`."""
        if not self._is_counted:
            self._is_counted = True
            self._used = self._edge.use(self._principal, size)

    def admit_another(self) -> None:
        """For each further message of a stream. Raises `Unauthenticated`, `Overloaded`."""
        self._edge.admit_another(self.head, self._principal)

    async def read(self, data: bytes, is_compressed: int) -> Any:
        """The protobuf message in `data`. Raises `Invalid`, `TooLarge`."""
        kind: type[Message] = self.method.answers.request
        if is_compressed:
            data = await messages.decompressed(data, self.head.encoding, self.limit)
        if messages.is_light(data, kind):
            return messages.read(kind, data)
        self.is_heavy = True
        return await messages.read_heavy(kind, data)

    def _leave(self) -> None:
        """Releases what the call holds, and writes its line."""
        if self._is_over:
            return
        self._is_over = True
        edge = self._edge
        if self._count is not None:
            self._count.leave()
        if self._timer is not None:
            self._timer.cancel()
        if self._used:
            edge.limits.end(self._principal, self._used)
        if self._logged is not None and edge.access_log is not None:
            edge.access_log.end(self._logged)

    # --- what can go wrong

    def refuse(self, error: TFserveError) -> None:
        """Ends a call that has no task yet."""

        def end() -> None:
            self._identify()
            self._fail(error)
            self._leave()

        copy_context().run(end)

    def on_abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if not self._has_begun:  # a task that is cancelled before its first step never runs
            self._leave()

    def _expire(self) -> None:
        self._is_expired = True
        if self._task is not None:
            self._task.cancel()
        if not self._has_begun:
            self.refuse(CallTimedOut())

    def _cancelled(self) -> None:
        """The client has cancelled the call, it has expired, or the server stops."""
        if self._is_expired:
            self._fail(CallTimedOut())
            if self.is_ended:  # its response was there in time, but the client has not taken it
                self.abandon()
        elif self._logged is not None and self._logged.entry.error is None:
            self._logged.entry.status, self._logged.entry.error = "CANCELLED", "client_gone"

    def _fail(self, error: Exception) -> None:
        """Sends the status of the error; what we did not foresee goes to the log, not to the client."""
        if not isinstance(error, TFserveError):
            log.error("a gRPC call failed", exc_info=error)
            error = Internal()
        if self._logged is not None:
            self._logged.entry.status, self._logged.entry.error = STATUS[error.kind].name, error.kind
        self.end(statuses.failed(error, self.request_id))

    def end(self, trailers: bytes) -> None:
        """Ends the response with trailers; those of a response without messages are its only header block."""
        self.finish(statuses.RESPONSE_HEAD + trailers if self.unsent is None else trailers)


def _nothing(_: None) -> None:
    """The call sends its response itself."""
