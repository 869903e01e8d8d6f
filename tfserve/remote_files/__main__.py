"""Fetches one source in a process of its own: its libraries are large, and a slow server must not hold a thread.

Standard input is the request as JSON. Prints the names of the files as JSON, or the error.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import msgspec

from tfserve import linux
from tfserve.errors import Failure, OutOfSpace, TFserveError
from tfserve.remote_files.fetching import FetchLimits, fetch
from tfserve.remote_sources import parse

MAX_MEMORY_BYTES = 4 * 2**30
"""For the list of the files of a source, which may have millions."""
NICENESS = 5


class FetchRequest(msgspec.Struct):
    """What to fetch, and where to."""

    url: str
    allowed: list[str]
    folder: str
    max_bytes: int
    room: int


def main() -> int:
    linux.die_with_parent(os.getppid())
    os.nice(NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, hard))
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=FetchRequest)
    allowed = [parse(each, "remote_sources") for each in request.allowed]
    limits = FetchLimits(request.max_bytes, request.room)
    try:
        names = fetch(parse(request.url, "path"), allowed, Path(request.folder), limits)
    except TFserveError as error:
        return _failed(error)
    except OSError as error:
        return _failed(OutOfSpace(cause=str(error)))
    sys.stdout.buffer.write(msgspec.json.encode(names))
    return 0


def _failed(error: TFserveError) -> int:
    sys.stdout.buffer.write(msgspec.json.encode(Failure(code=error.kind, message=error.message)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
