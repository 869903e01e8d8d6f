"""Unpacks one archive in a process of its own, so that a hostile one can't take the memory or the time of the server.

Arguments: the archive, its name, the new folder, the largest size of its content, and the room for it. Prints the
result as JSON, or the error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from tfserve import linux
from tfserve.archives.unpacking import unpack
from tfserve.errors import OutOfSpace, TFserveError

MAX_MEMORY_BYTES = 2 * 2**30
NICENESS = 5


def main() -> int:
    linux.die_with_parent(os.getppid())
    os.nice(NICENESS)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, hard))
    archive, name, folder, max_bytes, room = sys.argv[1:]
    try:
        found = unpack(Path(archive), Path(folder), name=name, max_bytes=int(max_bytes), room=int(room))
        linux.sync_file_system(Path(folder))
    except TFserveError as error:
        return _failed(error)
    except OSError as error:
        return _failed(OutOfSpace(cause=str(error)))
    print(json.dumps({"files": found.files, "size_bytes": found.size_bytes}))
    return 0


def _failed(error: TFserveError) -> int:
    print(json.dumps({"code": error.kind, "message": error.message}))
    return 1


if __name__ == "__main__":
    sys.exit(main())
