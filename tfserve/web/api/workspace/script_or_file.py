"""Checks the `job` of /push_job/ against its `type`: the path of a file, or the text of a script."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.uploads.store import PREFIX

MAX_PARSED = 10_000
SHOWN = 60

_PATH_NODES = (ast.Name, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Load, ast.Div, ast.Sub, ast.USub)
_SCRIPT_WORDS = re.compile(
    r"^\s*(?:#!|#\s|@\w|(?:import|from|def|class|if|for|while|with|try|print|return|raise|async|assert|del)\b[\s(:]"
    r"|[A-Za-z_][\w.]*\s*=)"
)
_FILE = re.compile(r"(?:~|\.{0,2}/|[A-Za-z]:\\)?[\w .,+@()/\\-]*\.pyw?")


def check_file(job: str, start: Path) -> None:
    """Raises `Invalid` if a path is expected and this looks like a script."""
    if not job.startswith(PREFIX) and looks_like_script(job) and not _exists(start / job):
        first = (job.strip().splitlines() or [""])[0][:SHOWN]
        raise Invalid(
            f"`job` must be the path of a file when `type` is 0 (the default), but {first!r} looks like a script. "
            "Send type 1 to run a script.",
            field="type",
        )


def check_text(job: str, start: Path) -> None:
    """Raises `Invalid` if a script is expected and this looks like the path of a file."""
    path = job.strip()
    is_upload = path.startswith(PREFIX)
    if "\n" not in path and (is_upload or _FILE.fullmatch(path) or (_looks_like_path(path) and _exists(start / path))):
        raise Invalid(
            f"`job` must be the text of a script when `type` is 1, but {path[:SHOWN]!r} looks like a file path. "
            "Send type 0 to run a file.",
            field="type",
        )


def looks_like_script(text: str) -> bool:
    """Whether a text is clearly Python and not a file name: several lines, a statement, a call."""
    if "\n" in text.strip() or "\r" in text.strip() or len(text) > MAX_PARSED:
        return True
    if _FILE.fullmatch(text.strip()):
        return False
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return bool(_SCRIPT_WORDS.match(text))
    return bool(text.strip()) and not (statements and all(map(_is_path, statements)))


def _is_path(statement: ast.stmt) -> bool:
    """Whether a statement has only names, dots, slashes and hyphens: `data/my-script.v2`."""
    if not isinstance(statement, ast.Expr):
        return False
    return all(
        isinstance(node, _PATH_NODES) or (isinstance(node, ast.Constant) and isinstance(node.value, int | float))
        for node in ast.walk(statement.value)
    )


def _looks_like_path(text: str) -> bool:
    return "/" in text and not re.search(r"[=;\"'#(\[{]", text)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or contains a NUL
        return False
