"""Resolves a path that a caller names inside the allowed roots, or refuses it.

A path is judged by where it leads after symbolic links are followed. It is judged twice: as it is written, and
as a sloppy reader further down would read it (percent-decoded, backslashes as slashes).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from tfserve.errors import Invalid, PathRefused

MAX_PATH = 4096

_TOP = "|".join(re.escape(each.name) for each in Path("/").iterdir() if each.is_dir())
_SERVER_PATH = re.compile(rf"""(?<![\w./:~-])/(?:{_TOP})(?:/[^\s'"<>|:;,()\[\]]*)+""")


def resolve(path: str, *, start: Path, roots: Sequence[Path]) -> Path:
    """The absolute path that `path` means, seen from the folder `start`.

    Raises `PathRefused` when it leads outside `roots`, `Invalid` when it is no path at all. The file need not exist.
    """
    if not path or "\0" in path or len(path) > MAX_PATH:
        raise Invalid(
            f"a path of 1 to {MAX_PATH} characters without NUL was expected, {path[:100]!r} was given", field="path"
        )
    for reading in (unquote(path).replace("\\", "/"), path):
        resolved = _real(start / reading)
        if not any(resolved.is_relative_to(root) for root in roots):
            raise PathRefused(path=path, roots=", ".join(map(str, roots)))
    return resolved


def read_inside(path: str, roots: Sequence[Path]) -> bytes:
    """The bytes of a file that lies inside `roots`; without roots, anywhere.

    The file that was opened is what is checked, so a link that is swapped meanwhile does not help. Raises
    `PermissionError` when it lies outside, and what `open` raises.
    """
    with Path(path).open("rb") as file:
        opened = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        if roots and not any(opened.is_relative_to(root) for root in roots):
            raise PermissionError(
                f"{path} leads to {opened}, outside the folders this server may read: {', '.join(map(str, roots))}"
            )
        return file.read()


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL that the decoding brought in
        raise Invalid(f"{str(path)!r} is not a path: {error}", field="path") from error


def without_folders(text: str, *known: str) -> str:
    """A message for callers who may not know where the server keeps its files: each path is only the file's name.

    `known` are paths that may be in it and have spaces in them, which no pattern finds.
    """
    for path in map(Path, filter(None, known)):
        text = text.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return _SERVER_PATH.sub(_file_name, text)


def _file_name(found: re.Match[str]) -> str:
    path = found[0].rstrip("/.")
    return path.rpartition("/")[2] + found[0][len(path) :].replace("/", "")
