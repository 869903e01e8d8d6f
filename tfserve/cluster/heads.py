"""The addresses at which the head may be: its own, and those of its standbys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tfserve.cluster.connecting import CannotConnect, parse_address
from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.connections import ConnectionLost

T = TypeVar("T")

NEXT_AFTER_S = 1.0
"""A machine that does not respond delays the attempt at the next address by no more than this."""


class Heads:
    """`10.0.0.1:7700,10.0.0.5:7700`. Only one of them serves at a time."""

    def __init__(self, text: str) -> None:
        """Raises `Invalid`."""
        self.addresses = [each for part in text.split(",") if (each := part.strip())]
        if not self.addresses:
            raise Invalid("expected the address of the head's cluster port, such as 10.0.0.1:7700, got nothing")
        for address in self.addresses:
            parse_address(address)

    def __str__(self) -> str:
        return ",".join(self.addresses)

    async def first(self, attempt: Callable[[str], Awaitable[T]], discard: Callable[[T], None]) -> T:
        """What the first successful attempt returns; the address of it is tried first the next time.

        `discard` gets what others return at the same moment. If all fail: raises the error of a head that has refused,
        otherwise that of a head that can't be reached.
        """
        addresses, running, problems = iter(self.addresses), dict[asyncio.Future[T], str](), list[Exception]()
        try:
            address = next(addresses, None)
            while address is not None or running:
                if address is not None:
                    running[asyncio.ensure_future(attempt(address))] = address
                    address = next(addresses, None)
                timeout = NEXT_AFTER_S if address is not None else None
                ended, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                for each in ended:
                    if (problem := each.exception()) is None:
                        self._prefer(running.pop(each))
                        return each.result()
                    if not isinstance(problem, TFserveError | ConnectionLost):
                        raise problem
                    running.pop(each)
                    problems.append(problem)
        finally:
            for each in running:
                if not each.cancel() and not each.cancelled() and each.exception() is None:
                    discard(each.result())
        raise _weightiest(problems)

    def _prefer(self, address: str) -> None:
        self.addresses.remove(address)
        self.addresses.insert(0, address)


def _weightiest(problems: list[Exception]) -> Exception:
    """A refusal says more than silence. Two that are silent are both named."""
    refusals = [each for each in problems if not isinstance(each, CannotConnect | ConnectionLost)]
    if refusals or len(problems) == 1:
        return (refusals or problems)[0]
    return NoHead(problems=" ".join(str(each) or "The head closed the connection." for each in problems))


class NoHead(CannotConnect):
    """{problems}"""
