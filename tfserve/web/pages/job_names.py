"""The name of a job for people: what it runs, in a few words."""

from __future__ import annotations

import re
from pathlib import PurePath
from urllib.parse import unquote

import msgspec

from tfserve.ipc.messages import JobKind

BEGINNING_CHARS = 2000
"""How much of a stored request is enough to name its job."""
NAME_CHARS = 60
DOCSTRING = re.compile(r"""^[rRuU]?(?:"{3}|'{3}|"|')\s*""")
PREPARATION = re.compile(r"(?:import|from|global|pass|try|if __name__)\b|[#%@]")
"""Beginnings of lines that say little about what a script does."""
MODEL_IN_PATH = re.compile(r"/models/([^/:]+)")
"""The model in the URL of a prediction, of v1 and of v2."""
GENERIC = ("content", "model", "saved_model", "savedmodel", "latest", "files")
"""Names of files and folders that many models have."""


def job_name(kind: str, beginning: str | None, project: str | None = None) -> str:
    """`w = train(data)`, `fit.py`, `deploy mobilenet/3`, `train flowers`.

    `beginning` are the first `BEGINNING_CHARS` or more of the stored request, a JSON object that may be cut off;
    None when it has been deleted. `project` is the folder that a training trains on.
    """
    text = beginning or ""
    match kind:
        case JobKind.SCRIPT:
            return _script_name(text)
        case JobKind.CLEAR:
            return "clear variables"
        case JobKind.TRAIN:
            return f"train {PurePath(project).name}" if project else "train"
        case JobKind.DEPLOY | JobKind.UPDATE:
            return f"{kind} {_model_name(member(text, 'path'))}".strip()
        case JobKind.PREDICT:
            return f"predict {', '.join(_fetches(text))}".strip()
        case JobKind.BATCH:
            return f"batch {member(text, 'model')}".strip()
        case JobKind.DEFERRED:
            found = MODEL_IN_PATH.search(member(text, "path"))
            return f"predict {unquote(found.group(1))}" if found else "predict"
        case _:
            return str(kind)


def _script_name(request: str) -> str:
    if file := member(request, "file"):
        return PurePath(file).name
    return _shortened(first_meaningful_line(member(request, "text")) or "script")


def first_meaningful_line(script: str) -> str:
    """The first line that is not an import, a comment or the like; otherwise the first line that is not empty."""
    lines = [line.strip() for line in script.splitlines() if line.strip()]
    if lines and (quote := DOCSTRING.match(lines[0])):
        title = " ".join([lines[0][quote.end() :], *lines[1:2]] if lines[0] == quote.group().strip() else [lines[0]])
        return DOCSTRING.sub("", title.strip()).strip("\"' ")
    return next((line for line in lines if not PREPARATION.match(line)), lines[0] if lines else "")


def _model_name(path: str) -> str:
    """The last part of a path that names the model, with its version."""
    parts = [part for part in PurePath(path).parts if part != "/"]
    version = parts.pop() if len(parts) > 1 and parts[-1].isdigit() else ""
    while len(parts) > 1 and PurePath(parts[-1]).stem.lower() in GENERIC:
        parts.pop()
    return "/".join(filter(None, [parts[-1] if parts else "", version]))


def _fetches(request: str) -> list[str]:
    found = re.search(r'"fetches":(\[[^\]]*\])', request)
    try:
        return msgspec.json.decode(found.group(1), type=list[str]) if found else []
    except msgspec.DecodeError:  # a name with a bracket
        return []


def member(request: str, name: str) -> str:
    """The text of a member of a JSON object that may be cut off; empty if the object does not have it.

    A quotation mark inside of a text is escaped, so the member's name with its quotation marks can't be in one.
    """
    found = re.search(rf'"{name}":"((?:[^"\\]|\\.)*)', request)
    if found is None:
        return ""
    whole = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?$", "", found.group(1))
    try:
        return msgspec.json.decode(f'"{whole}"', type=str)
    except msgspec.DecodeError:
        return ""


def _shortened(line: str) -> str:
    return line if len(line) <= NAME_CHARS else f"{line[: NAME_CHARS - 1].rstrip()}…"
