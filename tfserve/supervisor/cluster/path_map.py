"""The names of files on the head and on a node, and how a text or a message changes between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tfserve.errors import TFserveError, from_failure

T = TypeVar("T")


@dataclass(frozen=True)
class MappedFolder:
    """A folder of the head on the node, as far as it is there: only these `paths` in it, or everything ("")."""

    on_head: str
    on_node: str
    paths: tuple[str, ...] = ("",)

    def may_lead_to(self, path: str) -> bool:
        return path == self.on_head or path.startswith(f"{self.on_head.rstrip('/')}/")

    def holds(self, path: str) -> bool:
        """Whether it has the file, the folder, or the checkpoint with this prefix."""
        inside = path[len(self.on_head) :].strip("/")
        return any(
            not each or inside == each or inside.startswith(f"{each}/") or each.startswith(f"{inside}.")
            for each in self.paths
        )


class PathMap:
    """Paths on the head, each with the path of the same file on the node."""

    def __init__(self) -> None:
        self._all: list[MappedFolder] = []

    @property
    def on_node(self) -> dict[str, str]:
        return {folder.on_head: folder.on_node for folder in self._all}

    @property
    def folders_on_node(self) -> list[str]:
        return [folder.on_node for folder in self._all]

    def add(self, on_head: str, on_node: str, paths: tuple[str, ...] = ("",)) -> None:
        """Two files of one folder may be in two mapped folders, but each of them in one."""
        added = MappedFolder(on_head, on_node, paths)
        self._all = [each for each in self._all if each.on_head != on_head or not _overlap(each.paths, paths)]
        self._all.append(added)

    def to_node(self, path: str) -> str:
        """The path on the node of a path on the head; unchanged if it is not known."""
        leading = [folder for folder in self._all if folder.may_lead_to(path)]
        if not leading:
            return path
        best = max(leading, key=lambda folder: (len(folder.on_head), folder.holds(path)))
        return best.on_node + path[len(best.on_head) :]

    def in_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Those of a training, some of which are paths."""
        return {name: self.to_node(value) if isinstance(value, str) else value for name, value in parameters.items()}

    def in_response(self, response: T) -> T:
        """The response with the paths of the head instead of those of the node, wherever they are in it."""
        encoded = msgspec.msgpack.encode(response)
        if not any(folder.on_node.encode() in encoded for folder in self._all):
            return response
        changed = msgspec.msgpack.encode(self.to_head(msgspec.msgpack.decode(encoded)))
        return msgspec.msgpack.decode(changed, type=type(response))

    def in_error(self, error: TFserveError) -> TFserveError:
        failure = error.to_failure()
        changed = self.in_response(failure)
        return error if changed is failure else from_failure(changed)

    def to_head(self, value: Any) -> Any:
        """A text, bytes, or a list or dict of such."""
        match value:
            case str():
                for folder in self._longest_first:
                    value = value.replace(folder.on_node, folder.on_head)
            case bytes():
                for folder in self._longest_first:
                    value = value.replace(folder.on_node.encode(), folder.on_head.encode())
            case list():
                return [self.to_head(each) for each in value]
            case dict():
                return {self.to_head(key): self.to_head(each) for key, each in value.items()}
        return value

    @property
    def _longest_first(self) -> list[MappedFolder]:
        """A path may begin with another one."""
        return sorted(self._all, key=lambda folder: len(folder.on_node), reverse=True)


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return one == ("",) or other == ("",) or not set(one).isdisjoint(other)
