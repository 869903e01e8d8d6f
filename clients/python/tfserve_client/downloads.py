"""Downloads: files of workspaces and of trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from tfserve_client.core import Core
from tfserve_client.errors import Invalid
from tfserve_client.flows import Chunk, Flow, Request, Work


def read_file(core: Core, address: str) -> Flow[bytes]:
    """The content of a file. Raises `Invalid` for a folder."""
    response = yield from core._send(Request("GET", address, wait_s=None, idempotent=True))
    _require_file(response, address)
    return bytes(response.content)


def save_file(core: Core, address: str, target: Path) -> Flow[int]:
    """Writes a file piece by piece. It appears when it is complete. Returns its size. Raises `Invalid` for a folder."""
    return save_response(core, address, target, check=lambda response: _require_file(response, address))


def save_response(
    core: Core, address: str, target: Path, *, check: Callable[[httpx.Response], None] = lambda _: None
) -> Flow[int]:
    """Like `save_file`, for any response that `check` does not refuse."""
    response = yield from core._send(Request("GET", address, wait_s=None, idempotent=True, streamed=True))
    check(response)
    temporary = target.with_name(f".{target.name}.part")
    file = yield Work(partial(temporary.open, "wb"))
    size = 0
    try:
        while chunk := (yield Chunk()):
            size += len(chunk)
            yield Work(partial(file.write, chunk))
    except BaseException:
        file.close()
        temporary.unlink(missing_ok=True)
        raise
    file.close()
    yield Work(partial(temporary.replace, target))
    return size


def _require_file(response: httpx.Response, address: str) -> None:
    """The server sends files, and only files, with an entity tag. The list of a folder has none."""
    if "etag" not in response.headers:
        raise Invalid(f"{address} is a folder. Give the path of a file in it.")
