"""Limits how many passwords are checked: a check takes a good part of a second of a processor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tfserve.access.principals import ADDRESS
from tfserve.errors import Overloaded
from tfserve.web.access.failed_attempts import network_of

T = TypeVar("T")

MAX_OF_ADDRESS = 5
MAX_OF_ALL = 50


class TooManyLogIns(Overloaded):
    """{which} wait for the check of a password. Try again in some seconds."""


class PasswordChecks:
    """One check at a time, in the order of their requests. Those of an address that wait for the response to a failure
    count, so that guesses in parallel are no faster than one after another.
    """

    def __init__(self) -> None:
        self._of_address: Counter[str] = Counter()
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Around a check and what follows from it. Raises `TooManyLogIns` without a check."""
        address = network_of(ADDRESS.get())
        if self._of_address[address] >= MAX_OF_ADDRESS:
            raise TooManyLogIns(which=f"{MAX_OF_ADDRESS} log-ins from your address")
        if self._of_address.total() >= MAX_OF_ALL:
            raise TooManyLogIns(which=f"{MAX_OF_ALL} log-ins")
        self._of_address[address] += 1
        try:
            yield
        finally:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    async def run(self, check: Callable[[], Awaitable[T]]) -> T:
        """The result of `check`, which runs when no other one does."""
        async with self._one_at_a_time:
            return await check()
