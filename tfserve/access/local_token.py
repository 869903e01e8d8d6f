"""The token of the command line: a user that can read the data folder may administer its server.

A server makes a new one at every start, in a file that only its own user can read.
"""

from __future__ import annotations

import os
from pathlib import Path

from tfserve.access.secrets import new_secret

LOCAL, LOCAL_ID = "local", 0
FILE = "local_token"


def write(data_folder: Path) -> str:
    """Makes the token of a server that starts, and returns it."""
    secret = new_secret()
    temporary = data_folder / f"{FILE}.new"
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(secret)
    temporary.replace(data_folder / FILE)
    return secret


def read(data_folder: Path) -> str | None:
    """The token of the server on a data folder; None if it is missing or belongs to another user."""
    try:
        return (data_folder / FILE).read_text().strip()
    except OSError:
        return None
