"""Whether the `job` of /push_job/ is what its `type` says: the path of a file, or the text of a script."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tfserve.errors import Invalid

MAX_PARSED = 10_000
SHOWN = 60

_PATH_NODES = (ast.Name, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Load, ast.Div, ast.Sub, ast.USub)
_SCRIPT_WORDS = re.compile(
    r"^\s*(?:#!|#\s|@\w|(?:import|from|def|class|if|for|while|with|try|print|return|raise|async|assert|del)\b[\s(:]"
    r"|[A-Za-z_][\w.]*\s*=)"
)
_FILE = re.compile(r"(?:~|\.{0,2}/|[A-Za-z]:\\)?[\w .,+@()/\\-]*\.pyw?")


def check_file(job: str, start: Path) -> None:
    """Raises `Invalid` if a path was expected and this is the text of a script."""
    if looks_like_script(job) and not _exists(start / job):
        first = (job.strip().splitlines() or [""])[0][:SHOWN]
        raise Invalid(
            f"`job` must be the path of a file when `type` is 0 (the default), {first!r} was given: this looks like a "
            "script: send type 1",
            field="type",
        )


def check_text(job: str, start: Path) -> None:
    """Raises `Invalid` if a script was expected and this is the path of a file."""
    path = job.strip()
    if "\n" not in path and (_FILE.fullmatch(path) or (_looks_like_path(path) and _exists(start / path))):
        raise Invalid(
            f"`job` must be the text of a script when `type` is 1, {path[:SHOWN]!r} was given: this looks like the "
            "path of a file: send type 0",
            field="type",
        )


def looks_like_script(text: str) -> bool:
    """Whether a text is Python that nobody would call a file: several lines, a statement, a call."""
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
    """Whether a statement is only names, dots, slashes and hyphens: `data/my-script.v2`."""
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
    except (OSError, ValueError):  # too long for a path, or a NUL in it
        return False
