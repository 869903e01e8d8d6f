"""Which images show the same scene: by a column of a table, or by a pattern of their names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from tfserve.training.dataset.layouts import versions
from tfserve.training.dataset.layouts.versions import set_groups
from tfserve.training.dataset.search import Search

MAX_PATTERN = 500
TIME_S = 20.0
ROBOFLOW = r"([^/]+)\.rf\.[0-9a-f]{8,}\.\w+$"
"""Roboflow's copies of one image have its name and a digest of their own."""

_MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([match and "|".join(each or "" for each in match.groups()) for match in found], sys.stdout)
"""


def apply(search: Search, groups: str, columns: Sequence[str]) -> None:
    """Fills in the groups of the images. `columns` are those of the tables, for messages.

    `groups` is `auto`, `none`, the name of a column (whose values are there already), or a regular expression.
    """
    if groups == "none":
        set_groups(search, [""] * len(search.images))
    elif any(image.group for image in search.images):
        pass  # from a column
    elif groups == "auto":
        _apply_pattern(search, ROBOFLOW)
        versions.join(search)
    elif groups in columns:
        search.problems.append(f"groups: the column {groups!r} is empty for all images.")
    elif problem := _problem(groups):
        known = f" Columns are {', '.join(map(repr, columns[:20]))}." if columns else ""
        search.problems.append(
            f"groups: {groups[:100]!r} is neither a column of a table of images nor {problem}.{known}"
        )
    elif not _apply_pattern(search, groups):
        search.problems.append(
            f"groups: the pattern {groups[:100]!r} matches no image path, such as {search.images[0].path!r}."
            if search.images else "groups: the project has no images."
        )  # fmt: skip
    _describe(search)


def _problem(pattern: str) -> str:
    if len(pattern) > MAX_PATTERN:
        return f"a regular expression of at most {MAX_PATTERN} characters"
    try:
        count = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        return f"a regular expression ({error})"
    return "" if count else r"a regular expression with a group in parentheses, such as '^(.+)_\d+'"


def _apply_pattern(search: Search, pattern: str) -> int:
    """How many images have a group by the pattern, which is searched for in their paths."""
    names = [image.path for image in search.images]
    found = _searched(search, pattern, names)
    if any(found):
        set_groups(search, [each or "" for each in found])
    return sum(each is not None for each in found)


def _searched(search: Search, pattern: str, names: Sequence[str]) -> list[str | None]:
    """Runs in a separate process, because nothing else can stop a regular expression that never ends."""
    if pattern == ROBOFLOW:
        return [match[1] if (match := re.search(ROBOFLOW, name)) else None for name in names]
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCH], input=json.dumps([pattern, names]), capture_output=True,
            text=True, timeout=TIME_S, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        search.problems.append(f"groups: the pattern {pattern[:100]!r} takes too long. Use a simpler one.")
        return [""] * len(names)
    return msgspec.json.decode(done.stdout, type=list[str | None])


def _describe(search: Search) -> None:
    groups = {image.group for image in search.images if image.group}
    without = sum(not image.group for image in search.images)
    if groups:
        rest = f"; {without} images have no group" if without else ""
        search.remarks.append(
            f"Images of the same group are kept on one side of the split: {len(groups)} groups{rest}."
        )
