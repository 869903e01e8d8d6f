"""The names of files on the head and on a node, and how a text or a message changes between them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tfserve.errors import TFserveError, from_failure

T = TypeVar("T")


class Places:
    """Paths on the head, each with the path of the same file on the node."""

    def __init__(self) -> None:
        self._on_node: dict[str, str] = {}

    @property
    def on_node(self) -> dict[str, str]:
        return dict(self._on_node)

    def add(self, on_head: str, on_node: str) -> None:
        self._on_node[on_head] = on_node

    def to_node(self, path: str) -> str:
        """The path on the node of a path on the head; unchanged if it is not known."""
        for on_head, on_node in sorted(self._on_node.items(), key=lambda pair: len(pair[0]), reverse=True):
            if path == on_head or path.startswith(f"{on_head.rstrip('/')}/"):
                return on_node + path[len(on_head) :]
        return path

    def in_response(self, response: T) -> T:
        """The response with the paths of the head instead of those of the node, wherever they are in it."""
        encoded = msgspec.msgpack.encode(response)
        if not any(on_node.encode() in encoded for on_node in self._on_node.values()):
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
                for on_head, on_node in self._longest_first:
                    value = value.replace(on_node, on_head)
            case bytes():
                for on_head, on_node in self._longest_first:
                    value = value.replace(on_node.encode(), on_head.encode())
            case list():
                return [self.to_head(each) for each in value]
            case dict():
                return {self.to_head(key): self.to_head(each) for key, each in value.items()}
        return value

    @property
    def _longest_first(self) -> list[tuple[str, str]]:
        """A path may begin with another one."""
        return sorted(self._on_node.items(), key=lambda pair: len(pair[1]), reverse=True)
