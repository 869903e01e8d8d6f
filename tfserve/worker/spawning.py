"""Lets a process that `multiprocessing` spawns import a script that is in no file, as it imports one that is.

A spawned process runs the program's file again, under the name `__mp_main__`, to find the functions that it is to call.
The text of a script goes along with what the parent sends it, and `spawned_main.py` is the file that runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing import process, spawn
from pathlib import Path
from typing import Any

from tfserve.worker.script import Script

_MAIN = Path(__file__).with_name("spawned_main.py")

_received: list[Script] = []


def install(current: Callable[[], Script | None]) -> None:
    """From now on processes that are spawned here know the script that `current` returns."""
    original = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        script = current()
        if script is not None and script.text is not None:
            data["init_main_from_path"] = _ScriptText(script)
        return data

    spawn.get_preparation_data = get_preparation_data


class _ScriptText:
    """Becomes the path of the file that runs the text, in the process that unpickles it."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def __reduce__(self) -> tuple[Callable[[str, str], str], tuple[str, str | None]]:
        return _receive, (self._script.name, self._script.text)


def _receive(name: str, text: str) -> str:
    _received.append(Script(name, text))
    install(lambda: _received[-1])  # it may spawn others
    return str(_MAIN)


def run_received(namespace: dict[str, Any]) -> None:
    """Runs the text that this process was spawned with.

    One that starts processes without asking for its `__name__` would start them here too. Python refuses that; what
    was defined before is there, which is all that is needed.
    """
    namespace.clear()
    namespace.update(__name__="__mp_main__", __builtins__=sys.modules["builtins"])
    sys.argv[0] = ""
    try:
        _received[-1].run(namespace)
    except RuntimeError as error:
        if not getattr(process.current_process(), "_inheriting", False) or "bootstrapping phase" not in str(error):
            raise
