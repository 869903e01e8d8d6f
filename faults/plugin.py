"""The part of pytest that runs rows in a random order, checks after each test that its servers live, and observes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from faults import alive
from faults.rows import Row
from tests.acceptance.conftest import Server


@dataclass
class Observed:
    """What became of a row."""

    row: Row
    passed: int = 0
    skipped: str = ""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    left: set[str] = field(default_factory=set)

    @property
    def result(self) -> str:
        if self.failures:
            return "NOT SURVIVED"
        return "survived" if self.passed else "skipped"

    @property
    def text(self) -> str:
        if self.failures:
            return self.failures[0]
        if not self.passed:
            return self.skipped
        statuses = ", ".join(f"{status} ×{count}" for status, count in sorted(self.statuses.items()))
        return f"as expected in {self.passed} checks" + (f" (HTTP {statuses})" if statuses else "")


class FaultsPlugin:
    """One session of pytest. `report` is called whenever a row has ended."""

    def __init__(self, rows: list[Row], seed: int, report: Callable[[Observed], None]) -> None:
        self.observed = {row.fault: Observed(row) for row in rows}
        self._report = report
        self._order = random.Random(seed)
        self._rows_of: dict[str, list[Observed]] = {}
        for each in self.observed.values():
            for test in each.row.tests:
                self._rows_of.setdefault(f"tests/{test}", []).append(each)

    def _of(self, node_id: str) -> list[Observed]:
        return self._rows_of[node_id.partition("[")[0]]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Rows in a random order, each with its tests together."""
        faults = sorted(self.observed)
        self._order.shuffle(faults)
        items.sort(key=lambda item: faults.index(self._of(item.nodeid)[0].row.fault))
        for each in self.observed.values():
            each.left = {item.nodeid for item in items if each in self._of(item.nodeid)}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        with _statuses() as seen:
            try:
                result = yield
            finally:
                for each in self._of(item.nodeid):
                    each.statuses += seen
        for server in [each for each in Server.running if each.process.poll() is None]:
            is_shared = server in item.funcargs.values()  # type: ignore[attr-defined]
            alive.check(server, keep=is_shared)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for each in self._of(report.nodeid):
            each.seconds += report.duration
            if report.failed:
                each.failures.append(f"{report.nodeid.partition('::')[2]}: {_first_line(report)}")
            elif report.skipped:
                each.skipped = str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else "skipped"
            elif report.when == "call":
                each.passed += 1
            if report.when == "teardown":
                self._done(each, report.nodeid)

    def _done(self, each: Observed, node_id: str) -> None:
        each.left.discard(node_id)
        if not each.left:
            self._report(each)


@contextmanager
def _statuses() -> Iterator[Counter[int]]:
    """Counts the HTTP statuses of the responses that clients of this process get meanwhile."""
    seen: Counter[int] = Counter()
    send = httpx.Client.send

    def counted(client: httpx.Client, *arguments: Any, **options: Any) -> httpx.Response:
        response = send(client, *arguments, **options)
        seen[response.status_code] += 1
        return response

    httpx.Client.send = counted  # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        httpx.Client.send = send  # type: ignore[method-assign]


def _first_line(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).strip().splitlines()[0][:300]
