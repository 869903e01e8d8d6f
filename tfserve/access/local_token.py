"""The token of the command line: a user that can read the data folder may administer its server.

A server makes a new one at every start, in a file that only its own user can read.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from tfserve.access.secrets import new_secret

log = logging.getLogger(__name__)

LOCAL, LOCAL_ID = "local", 0
FILE = "local_token"


def begin(data_folder: Path) -> str:
    """Makes the token of a server that starts. On a full disk it starts without one, as reading must still work."""
    secret = new_secret()
    try:
        _write(data_folder, secret)
    except OSError as error:
        log.error("`tfserve token` can't be used until the next start: the local token can't be written: %s", error)
    return secret


def _write(data_folder: Path, secret: str) -> None:
    temporary = data_folder / f"{FILE}.new"
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(secret)
    temporary.replace(data_folder / FILE)


def read(data_folder: Path) -> str | None:
    """The token of the server on a data folder; None if it is missing or belongs to another user."""
    try:
        return (data_folder / FILE).read_text().strip()
    except OSError:
        return None
