"""Downloads: files of workspaces and of trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from tfserve_client.core import Core
from tfserve_client.errors import Invalid
from tfserve_client.flows import Chunk, Flow, Request, Work

PART_NAME = 60
"""Characters of a file's name in that of its temporary file: with 4 bytes each, they fit into any name."""


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
    temporary = _temporary(target)
    file = yield Work(partial(temporary.open, "wb"))
    size = 0
    try:
        while chunk := (yield Chunk()):
            size += len(chunk)
            yield Work(partial(file.write, chunk))
    except BaseException:
        file.close()
        if temporary != target:
            temporary.unlink(missing_ok=True)
        raise
    file.close()
    if temporary != target:
        yield Work(partial(temporary.replace, target.resolve()))
    return size


def _temporary(target: Path) -> Path:
    """Where a download is written until it is complete: next to the file, or directly to a device or a pipe."""
    if target.is_dir():
        raise Invalid(f"{target} is a folder. Give the path of the file to write.")
    if target.exists() and not target.is_file():
        return target
    target = target.resolve()  # a link stays one
    return target.with_name(f".{target.name[:PART_NAME]}.part")


def _require_file(response: httpx.Response, address: str) -> None:
    """The server sends files, and only files, with an entity tag. The list of a folder has none."""
    if "etag" not in response.headers:
        raise Invalid(f"{address} is a folder. Give the path of a file in it.")
