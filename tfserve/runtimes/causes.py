"""What libraries say about a failure, shortened to what explains it."""

from __future__ import annotations

import re
from itertools import islice, takewhile

LIMIT = 500

_CONTROL = re.compile(r"\x1b\[[0-9;]*m")
_IN_LAYER = re.compile(r"Exception encountered when calling .*")
_CALL_ARGUMENTS = re.compile(r"(Call arguments|Arguments) received by .*")
_WHERE = ("[[{{", "Detected at")


def cause(error: BaseException | str) -> str:
    """The first sentences of an error, without the lists of nodes, arguments and stack traces that follow.

    Keras says in the first paragraph which layer failed, and why only in the next one: both are returned.
    """
    text = str(getattr(error, "message", None) or error).strip() or type(error).__name__
    text = _CONTROL.sub("", text.removeprefix("Graph execution error:")).strip()
    paragraphs = [_first_lines(each) for each in re.split(r"\n\s*\n", text)]
    layers = list(takewhile(_IN_LAYER.fullmatch, paragraphs))
    rest = [each for each in paragraphs[len(layers) :] if each and not _CALL_ARGUMENTS.match(each)]
    if layers and rest:
        return f"{layers[-1].rstrip('.')}: {rest[0]}"[:LIMIT].rstrip(". ") + "."
    return paragraphs[0][:LIMIT].rstrip(". ") + "."


def _first_lines(paragraph: str) -> str:
    lines = (line.strip() for line in paragraph.strip().splitlines())
    return " ".join(islice(takewhile(lambda line: not line.startswith(_WHERE), lines), 3))
