"""Sends a job as JSON to the URL that its client named, when the job has ended.

A callback is recorded with its job and every attempt is recorded after it, so the next start of the server continues.
The receiver may get one callback twice, if the server is killed between the response and its record.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from tfserve import __version__
from tfserve.callback_addresses import CallbackAddress, CallbackAddresses, CallbackRefused
from tfserve.config import Settings
from tfserve.db import callbacks
from tfserve.db.callbacks import Delivery
from tfserve.db.models import Callback
from tfserve.errors import Internal, Invalid, TFserveError
from tfserve.ipc.messages import GetCallbackSecret, Message
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.jobs.journal import Journal

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""For one attempt as a whole."""
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 3600.0
MAX_CONCURRENT = 16
MAX_ERROR = 500
"""Characters of an error that are recorded."""
FAULT = "Internal server error while the callback was sent. See the server's log."
RESOLVERS = 4
"""Threads that resolve names."""
GONE = 410
"""The status with which a receiver refuses further attempts."""


class CallbackAttempt(NamedTuple):
    """What came of one attempt. `is_final` if another one would not help."""

    status: int | None = None
    error: str = ""
    is_final: bool = False

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class JobCallbacks:
    """The callbacks of all jobs that have not ended, or whose callback is not delivered yet."""

    def __init__(self, settings: Settings, journal: Journal, *, is_open: Callable[[], bool]) -> None:
        """`is_open`: whether requests need no token at present."""
        self._settings = settings
        self._is_open = is_open
        self._max_attempts = settings.callback_attempts
        self._journal = journal
        self._tasks = BackgroundTasks()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()
        #: of its own, because a slow name server must not hold up other work
        self._resolver = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="callback-names")

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Awaitable[Any]]]:
        """The handlers of web's requests."""
        return {GetCallbackSecret: self._get_secret}

    @property
    def _addresses(self) -> CallbackAddresses:
        return CallbackAddresses.of(self._settings, is_open=self._is_open())

    async def begin(self) -> None:
        """Continues with what the last server has left. Call it once all jobs are restored."""
        for job_id, is_ended in (await self._journal.change(callbacks.waiting)).items():
            callbacks.expected.add(job_id)
            if is_ended:
                self.job_ended(job_id)
        self._journal.on_ended = self.job_ended

    def job_ended(self, job_id: int) -> None:
        """Begins to deliver the callback of a job whose end is recorded, if it has one."""
        if job_id in callbacks.expected:
            callbacks.expected.discard(job_id)
            self._tasks.start(self._deliver(job_id))

    async def _get_secret(self, request: GetCallbackSecret) -> str:
        return await self._secret(request.owner)

    async def _secret(self, owner: str) -> str:
        return await self._journal.change(partial(callbacks.secret, owner))

    async def close(self) -> None:
        """Stops at once: the next start delivers the rest."""
        self._tasks.cancel()
        await self._tasks.wait()
        self._resolver.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, job_id: int) -> None:
        """Sends it until it is delivered or has failed. A fault of the server is a failure, and not repeated."""
        try:
            await self._send_until_final(job_id)
        except Exception:
            log.exception("the callback of job %s is given up", job_id)
            note = partial(callbacks.note_attempt, job_id, Callback.State.FAILED, None, FAULT)
            with contextlib.suppress(TFserveError):  # the next start tries again
                await self._journal.change(note)

    async def _send_until_final(self, job_id: int) -> None:
        while True:
            try:
                due = await self._journal.change(partial(callbacks.delivery, job_id))
                if due is None:
                    return
                attempt = await self._attempt(job_id, due)
                state = self._state_after(attempt, due.attempts + 1)
                note = partial(callbacks.note_attempt, job_id, state, attempt.status, attempt.error)
                await self._journal.insist(note, f"callback of job {job_id}")
            except Internal:
                raise
            except TFserveError as error:  # the database: the attempt is repeated
                log.warning("the callback of job %s waits: %s", job_id, error)
                await asyncio.sleep(delay_s(0))
                continue
            if state != Callback.State.WAITING:
                return
            await asyncio.sleep(delay_s(due.attempts))

    def _state_after(self, attempt: CallbackAttempt, attempts: int) -> str:
        if attempt.is_accepted:
            return Callback.State.DELIVERED
        is_last = attempt.is_final or attempts >= self._max_attempts
        return Callback.State.FAILED if is_last else Callback.State.WAITING

    async def _attempt(self, job_id: int, due: Delivery) -> CallbackAttempt:
        import httpx  # only a server with callbacks needs it

        async with self._slots:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    attempt = await self._post(job_id, due)
            except Invalid as refused:
                attempt = CallbackAttempt(error=refused.message, is_final=True)
            except TimeoutError:
                attempt = CallbackAttempt(error=f"no response within {TIMEOUT_S:g} s")
            except UnicodeError as error:  # no name server can resolve it
                attempt = CallbackAttempt(error=f"{due.url[:200]} has no valid host name: {error}", is_final=True)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                attempt = CallbackAttempt(error=f"{type(error).__name__}: {error}"[:MAX_ERROR])
        if not attempt.is_accepted:
            log.warning("the callback of job %s failed (attempt %s): %s", job_id, due.attempts + 1, attempt.error)
        return attempt

    async def _post(self, job_id: int, due: Delivery) -> CallbackAttempt:
        """One request. The body of the response is not read. Raises `Invalid` if the address is not allowed."""
        target = self._addresses.check(due.url)
        address = await self._resolve(target, due.url)
        key = await self._secret(due.owner)
        headers = {
            "host": target.authority,
            "content-type": "application/json",
            "user-agent": f"TFserve/{__version__}",
            "x-tfserve-job": str(job_id),
            "x-tfserve-attempt": str(due.attempts + 1),
            "x-tfserve-signature": await asyncio.to_thread(signature, key, due.body, int(time.time())),
        }
        host = f"[{address}]" if ":" in address else address
        url = f"{target.scheme}://{host}:{target.port}{target.path}"
        client = await self._open()
        # The certificate is checked for the name in the URL, although the connection goes to an address.
        extensions = {"sni_hostname": target.host}
        async with client.stream("POST", url, content=due.body, headers=headers, extensions=extensions) as response:
            status = response.status_code
        error = "" if 200 <= status < 300 else f"the receiver responded with status {status}"
        return CallbackAttempt(status, error, is_final=status == GONE)

    async def _resolve(self, target: CallbackAddress, url: str) -> str:
        """An address of the host that is allowed. Raises `CallbackRefused`, `OSError`."""
        resolve = partial(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._resolver, resolve)
        for *_, where in found:
            address = ip_address(str(where[0]).partition("%")[0])
            if self._addresses.allows(address, target.host):
                return str(address)
        raise CallbackRefused(url=url)

    async def _open(self) -> httpx.AsyncClient:
        """Without proxies from the environment, which would resolve names themselves, and without redirects."""
        import httpx

        async with self._opening:
            if self._client is None:
                context = await asyncio.to_thread(ssl.create_default_context)
                limits = httpx.Limits(max_keepalive_connections=0)
                self._client = httpx.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_S, limits=limits)
        return self._client


def delay_s(attempts: int, jitter: float | None = None) -> float:
    """Seconds to the next attempt after `attempts` failed ones before this one. `jitter` is from 0 to 1."""
    jitter = random.random() if jitter is None else jitter  # noqa: S311 - spreads load, hides nothing
    return min(FIRST_DELAY_S * 2.0 ** min(attempts, 30), MAX_DELAY_S) * (0.75 + jitter / 2)


def signature(key: str, body: bytes, timestamp: int) -> str:
    """The value of X-TFserve-Signature: HMAC-SHA256 over the time in seconds, a full stop and the body."""
    mac = hmac.new(key.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={mac.hexdigest()}"
