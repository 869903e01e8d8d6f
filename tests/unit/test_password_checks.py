"""Checks of passwords: one at a time, in fair turns, and counted whatever the client does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from tfserve.access.principals import ADDRESS
from tfserve.web.access import failed_attempts, password_checks
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.failed_attempts import FREE
from tfserve.web.access.password_checks import PasswordChecks, TooManyLogIns


class Attempts:
    """Checks that last until `open` is set, and a record of how many ran at once and in which order."""

    def __init__(self, audit: AuditLog) -> None:
        self.checks = PasswordChecks(audit)
        self.open = threading.Event()
        self.order: list[str] = []
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def _check(self, address: str, result: str | None) -> str | None:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.order.append(address)
        self.open.wait(30)
        with self._lock:
            self._running -= 1
        return result

    async def begin(self, address: str, result: str | None = None) -> asyncio.Task[str | None]:
        """A log-in that has been queued or refused when this returns."""
        ADDRESS.set(address)
        task = asyncio.create_task(self.checks.run(lambda: self._check(address, result)))
        await asyncio.sleep(0)
        return task

    async def fail(self, address: str, times: int) -> None:
        for _ in range(times):
            assert await (await self.begin(address)) is None


def run(scenario: Callable[[Attempts], Coroutine[None, None, None]], audit: AuditLog | None = None) -> Attempts:
    async def running() -> Attempts:
        attempts = Attempts(audit or AuditLog(None))
        await scenario(attempts)
        return attempts

    return asyncio.run(running())


def test_cancelled_log_ins_are_checked_one_at_a_time_and_recorded(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl")

    async def scenario(attempts: Attempts) -> None:
        tasks = [await attempts.begin("192.0.2.1") for _ in range(FREE)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        with pytest.raises(TooManyLogIns, match="from your address"):
            await (await attempts.begin("192.0.2.1"))
        other = await attempts.begin("192.0.2.2", "user")
        attempts.open.set()
        assert await other == "user"
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # the checks whose callers are gone

    attempts = run(scenario, audit)
    assert attempts.most == 1
    assert attempts.order.count("192.0.2.1") == FREE
    assert [entry.client for entry in audit.last(100)] == ["192.0.2.1"] * FREE


def test_an_address_with_failures_waits_for_the_others() -> None:
    async def scenario(attempts: Attempts) -> None:
        attempts.open.set()
        await attempts.fail("192.0.2.1", 2)
        attempts.open.clear()
        attempts.order.clear()
        guesses = [await attempts.begin("192.0.2.1") for _ in range(3)]
        others = [await attempts.begin(f"192.0.2.{number}", "user") for number in (2, 3)]
        attempts.open.set()
        await asyncio.gather(*guesses, *others)

    order = run(scenario).order
    assert order == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.1"]


def test_after_a_delay_has_begun_an_address_gets_no_check_until_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_attempts, "FIRST_DELAY_S", failed_attempts.MAX_DELAY_S)

    async def scenario(attempts: Attempts) -> None:
        attempts.open.set()
        await attempts.fail("192.0.2.1", FREE + 1)
        for _ in range(5):
            with pytest.raises(TooManyLogIns, match="6 log-ins from your address have failed"):
                await (await attempts.begin("192.0.2.1"))
        assert await (await attempts.begin("192.0.2.2", "user")) == "user"

    assert len(run(scenario).order) == FREE + 2


def test_guesses_do_not_take_the_places_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_checks, "MAX_WAITING", 3)

    async def scenario(attempts: Attempts) -> None:
        attempts.open.set()
        await attempts.fail("192.0.2.1", 1)
        attempts.open.clear()
        guesses = [await attempts.begin("192.0.2.1") for _ in range(4)]
        others = [await attempts.begin(f"192.0.2.{number}", "user") for number in (2, 3, 4)]
        for guess in guesses[1:]:
            with pytest.raises(TooManyLogIns, match="wait for the check"):
                await guess
        with pytest.raises(TooManyLogIns):
            await (await attempts.begin("192.0.2.5"))
        attempts.open.set()
        assert await asyncio.gather(*others, guesses[0]) == ["user", "user", "user", None]

    run(scenario)
