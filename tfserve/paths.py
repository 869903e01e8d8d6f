"""Resolves paths from callers and refuses those outside the allowed roots.

Symbolic links are followed before a path is checked. It is checked twice: as written, and as a lenient library might
read it (percent-decoded, with backslashes as slashes).
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
    """The absolute path of `path` relative to the folder `start`.

    Raises `PathRefused` if it leads outside `roots`, `Invalid` if it is not a valid path. The file need not exist.
    """
    if not path or "\0" in path or len(path) > MAX_PATH:
        raise Invalid(f"expected a path of 1 to {MAX_PATH} characters without NUL, got {path[:100]!r}", field="path")
    for reading in (unquote(path).replace("\\", "/"), path):
        resolved = _real(start / reading)
        if not any(resolved.is_relative_to(root) for root in roots):
            raise PathRefused(path=path, roots=", ".join(map(str, roots)))
    return resolved


def read_inside(path: str, roots: Sequence[Path]) -> bytes:
    """The bytes of a file inside `roots`, or anywhere if `roots` is empty.

    Checks the file after opening it, so that swapping a link in between has no effect. Raises `PermissionError` if
    it is outside, and the errors of `open`.
    """
    with Path(path).open("rb") as file:
        opened = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        if roots and not any(opened.is_relative_to(root) for root in roots):
            raise PermissionError(
                f"{path} leads to {opened}, outside the readable folders of this server: {', '.join(map(str, roots))}"
            )
        return file.read()


def size_bytes(path: Path) -> int | None:
    """Of a file, or of all files in a folder; None if it is missing."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else None


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL after decoding
        raise Invalid(f"{str(path)!r} is not a valid path: {error}", field="path") from error


def without_folders(text: str, *known: str) -> str:
    """The message with paths shortened to file names, for callers who must not learn the server's directory layout.

    `known` are paths with spaces that may occur in it, which no pattern would find.
    """
    for path in map(Path, filter(None, known)):
        text = text.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return _SERVER_PATH.sub(_file_name, text)


def _file_name(found: re.Match[str]) -> str:
    path = found[0].rstrip("/.")
    return path.rpartition("/")[2] + found[0][len(path) :].replace("/", "")
