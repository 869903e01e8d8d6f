"""Lets `inspect.getsource` find the classes of a script that is in no file.

Python looks for the file of a class's module. Functions know theirs, so it finds functions without help.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import re
from collections.abc import Callable
from typing import Any

from tfserve.worker.scripts import script


def install() -> None:
    """Replaces `inspect.getfile` in this process, permanently."""
    inspect.getfile = _also_classes(inspect.getfile)  # type: ignore[assignment]


def _also_classes(getfile: Callable[[Any], str]) -> Callable[[Any], str]:
    @functools.wraps(getfile)
    def find(thing: Any) -> str:
        try:
            return getfile(thing)
        except (OSError, TypeError):
            name = _text_of(thing)
            if name is None:
                raise
            return name

    return find


def _text_of(cls: Any) -> str | None:
    """The name of the text that defines a class: that of its functions, else the last one with such a class."""
    if not isinstance(cls, type) or cls.__module__ != "__main__":
        return None
    names = script.remembered_texts()
    codes = [getattr(inspect.unwrap(each), "__code__", None) for each in vars(cls).values() if callable(each)]
    for name in [code.co_filename for code in codes if code is not None]:
        if name in names:
            return str(name)
    definition = re.compile(rf"^[ \t]*class[ \t]+{re.escape(cls.__name__)}\b")
    return next((name for name in reversed(names) if any(map(definition.match, linecache.getlines(name)))), None)
