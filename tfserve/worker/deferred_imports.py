"""Lets TensorFlow and Keras import what they rarely use only when they use it.

Keras imports whatever of scikit-learn, matplotlib and rich is installed, for wrappers, galleries and summaries. In
every process, that took half as much processor time as the rest of TensorFlow, and 80 MB. Nobody else sees the
substitutes: they are out of `sys.modules` when the import of TensorFlow ends.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

WRAPPED = ("tensorflow", "keras")
PACKAGES = {"matplotlib": ("patches", "pyplot"), "rich": ("console", "markup", "table")}
"""Of these, and of what Keras imports of them, the substitutes take the place."""
WRAPPERS = ("keras.wrappers", "keras._tf_keras.keras.wrappers")
"""They derive from classes of scikit-learn, so they are deferred themselves."""

_substitutes: dict[str, Deferred] = {}


def install() -> None:
    """From now on, for imports of TensorFlow and Keras by anybody in this process."""
    sys.meta_path.insert(0, _Finder())


class Deferred(ModuleType):
    """Stands for a module, which it imports when one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks about
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            _remove()
        return getattr(importlib.import_module(self.__name__), name)


class _Finder(MetaPathFinder):
    """Finds TensorFlow and Keras as usual, but with a loader that puts the substitutes in for as long as it runs."""

    def __init__(self) -> None:
        self._awaited = set(WRAPPED)

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname not in self._awaited:
            return None
        self._awaited.discard(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _put_in_around(spec.loader)
        return spec


def _put_in_around(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module  # the class's own is left
        is_outermost = not _substitutes
        if is_outermost:
            _put_in()
        try:
            execute(module)
        finally:
            if is_outermost:
                _remove()

    loader.exec_module = exec_module


def _put_in() -> None:
    for package, children in PACKAGES.items():
        if package in sys.modules or importlib.util.find_spec(package) is None:
            continue  # Keras has to see what is missing
        parent = _substitute(package)
        for child in children:
            setattr(parent, child, _substitute(f"{package}.{child}"))
    for name in WRAPPERS:
        if name not in sys.modules:
            _substitute(name)


def _substitute(name: str) -> Deferred:
    substitute = _substitutes[name] = sys.modules[name] = Deferred(name)
    return substitute


def _remove() -> None:
    for name, substitute in list(_substitutes.items()):  # another thread may import Keras meanwhile
        if sys.modules.get(name) is substitute:
            del sys.modules[name]
    _substitutes.clear()
