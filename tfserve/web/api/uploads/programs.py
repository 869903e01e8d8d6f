"""Runs one of our programs that handles what clients send, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tfserve.errors import Failure, TFserveError, from_failure

T = TypeVar("T")


async def run_program(
    module: str, *arguments: str, result: type[T], ended: Callable[[int], TFserveError], request: bytes | None = None,
    shows_errors: bool = True,
) -> T:  # fmt: skip
    """The result that it prints as JSON. Raises the error that it prints, or `ended` of the signal that ended it.

    `request` is its standard input. The process is killed if this is cancelled.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *arguments,
        stdin=asyncio.subprocess.DEVNULL if request is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=None if shows_errors else asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await process.communicate(request)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return msgspec.json.decode(output, type=result)
    if not output:
        raise ended(-(process.returncode or 0))
    raise from_failure(msgspec.json.decode(output, type=Failure))
