"""YAML from users' files, of limited size, and without merges that grow without limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tfserve.training.dataset import text_reading

MAX_BYTES = 512 * 1024
"""PyYAML reads about 100 KB in a second. The names of 20,000 classes need less than this."""
MAX_MERGED = 100_000
"""Keys that merges (`<<: *other`) may copy, altogether."""
_MERGE = "tag:yaml.org,2002:merge"


class NotYaml(Exception):
    """The message is a clause without its subject, the file."""


def read(file: Path) -> Any:
    """Raises `NotYaml`."""
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise NotYaml(f"has {size} bytes (limit: {MAX_BYTES})")
        text = text_reading.read(file)
    except (OSError, UnicodeDecodeError) as error:
        raise NotYaml(f"can't be read: {error}") from None
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (a safe loader)
    except Exception as error:  # its tags raise anything: KeyError, AttributeError, OverflowError, …
        where = " ".join(str(error).split())[:200]
        raise NotYaml(f"is not valid YAML: {where}") from None


class _Loader(yaml.SafeLoader):
    """Counts the keys that merges copy: a few lines that merge each other would make billions."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replaces merges by the pairs of the merged objects, before the object's own, which override them."""
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        merges = [value for key, value in node.value if key.tag == _MERGE]
        merged: list[Any] = []
        for value in merges:
            others = value.value[::-1] if isinstance(value, yaml.SequenceNode) else [value]
            for other in others:
                if not isinstance(other, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(None, None, "expected an object to merge", value.start_mark)
                self.flatten_mapping(other)
                self._merged += len(other.value)
                if self._merged > MAX_MERGED:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"merges copy more than {MAX_MERGED} keys", node.start_mark
                    )
                merged += other.value
        node.value = merged + own
