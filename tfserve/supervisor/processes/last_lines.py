"""The last lines that a process printed, together with the start of a longer fault dump."""

from __future__ import annotations

from dataclasses import dataclass

LAST_BYTES = 2000
HEAD_BYTES = 1000
BEFORE_BYTES = 600
"""Libraries print the reason just before they abort."""
GAP = b"[...]\n"

_MARKERS = (
    # the reason, as printed by what calls abort(): C++, glibc, glog and absl (TensorFlow), sanitizers, LLVM, Rust
    (
        b"terminate called", b"libc++abi: ", b"pure virtual method called", b"Check failed: ", b"Assertion `",
        b"*** stack smashing", b"*** buffer overflow", b"double free or corruption", b"corrupted size",
        b"corrupted double-linked", b"free(): ", b"malloc(): ", b"realloc(): ", b"munmap_chunk(): ", b"Sanitizer: ",
        b"LLVM ERROR: ", b"panicked at ",
    ),
    # the dump that Python prints for the signal
    (b"Fatal Python error: ",),
    (b"Current thread 0x",),
)  # fmt: skip
_LONGEST_MARKER = max(len(words) for marker in _MARKERS for words in marker)


@dataclass
class _Span:
    """A part of the output. `start` is its offset in the whole, `limit` the maximum offset of its end."""

    start: int
    limit: int
    data: bytes = b""

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class LastLines:
    """Keeps at most 7 kB of all output: the end, and for the last fault the reason, the first lines of its dump, and
    the stack of its thread."""

    def __init__(self) -> None:
        self._tail = b""
        self._size = 0
        self._marked: dict[int, _Span] = {}

    @property
    def has_fault(self) -> bool:
        return bool(self._marked)

    def add(self, data: bytes) -> None:
        recent = self._tail + data
        before = self._size - len(self._tail)
        for span in self._marked.values():
            if span.end == self._size:
                span.data += data[: max(0, span.limit - span.end)]
        # A marker may arrive in two pieces; one that ended before this piece has been found already.
        unknown = max(0, len(self._tail) - _LONGEST_MARKER + 1)
        for number, marker in enumerate(_MARKERS):
            found = max(recent.rfind(words, unknown) for words in marker)
            if found >= 0:
                self._marked[number] = _around(found, recent, before)
        self._tail = recent[-LAST_BYTES:]
        self._size += len(data)

    def text(self) -> str:
        """The parts in the order in which they were printed, with a line `[...]` for what was left out."""
        tail = _Span(self._size - len(self._tail), self._size, self._tail)
        spans = sorted((*self._marked.values(), tail), key=lambda span: span.start)
        parts, end = [spans[0].data], spans[0].end
        for span in spans[1:]:
            if span.start > end:
                parts[-1] = parts[-1][: parts[-1].rfind(b"\n") + 1] or parts[-1] + b"\n"
                parts += [GAP, span.data]
            else:
                parts.append(span.data[end - span.start :])
            end = max(end, span.end)
        return b"".join(parts).decode(errors="replace")


def _around(found: int, recent: bytes, before: int) -> _Span:
    """The lines around a marker; `before` is the offset of `recent` in the whole."""
    earliest = max(0, found - BEFORE_BYTES)
    line = recent.rfind(b"\n", 0, found) + 1  # the marker's own line is kept from its beginning
    whole = 0 if earliest == 0 else recent.find(b"\n", earliest, found) + 1
    start = min(line, whole or line) if earliest else 0
    return _Span(before + start, before + found + HEAD_BYTES, recent[start : found + HEAD_BYTES])
