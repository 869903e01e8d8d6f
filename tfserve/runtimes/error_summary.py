"""Shortens a library's error message to its cause: no locations in programs or graphs, no arguments, no stack traces.

It covers TensorFlow, Keras, LiteRT, ONNX Runtime, OpenVINO and Pillow.
"""

from __future__ import annotations

import re
from itertools import dropwhile, islice, pairwise, takewhile

LIMIT = 500
MAX_LINES = 3

_FILE = 'File "'
_NOISE = re.compile(
    r"Graph execution error|Detected at|<stack traces|in user code:|\[\[\{\{|\d+ root error"
    r"|Exception from|Check '|FrontEnd API|Summary:|To facilitate|Model wasn't"
)
_PREFIX = re.compile(
    r"^(\{\{[^}]*\}\}\s*|\(\d+\)\s+[A-Z_]+:\s+"
    r"|\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |/onnxruntime_src/.*\)\s(?=[A-Z]))+"
)
_UNPRINTED = re.compile(r"\x1b\[[0-9;]*m|\s*<[^<>]* object at 0x[0-9a-f]+>")
_IN_LAYER = re.compile(r"Exception encountered when calling .*")
_IN_CONFIGURATION = "Exception encountered: "
_DESERIALIZED = re.compile(r"(?:Error when deserializing class|<class)\s+'(?:[\w.]+\.)?(\w+)'")
_CALL_ARGUMENTS = re.compile(r"(Call arguments|Arguments) received by .*")


def cause(error: BaseException | str, limit: int = LIMIT) -> str:
    """The first lines that explain the error, without the period at the end; its type if it has no message.

    Keras says in the first paragraph which layer failed, and why only in the next one: both are returned.
    """
    text = _without_configuration(_UNPRINTED.sub("", str(getattr(error, "message", None) or error)).strip())
    paragraphs = [each for each in map(_explanation, re.split(r"\n\s*\n", text)) if each]
    layers = list(takewhile(_IN_LAYER.fullmatch, paragraphs))
    rest = [each for each in paragraphs[len(layers) :] if not _CALL_ARGUMENTS.match(each)]
    if layers and rest:
        found = f"{layers[-1].rstrip('.')}: {rest[0]}"
    else:
        found = next(iter(paragraphs), text.partition("\n")[0])
    return found[:limit].rstrip(" .:") or type(error).__name__


def _without_configuration(text: str) -> str:
    """If Keras can't build a layer of a file, its message has the whole configuration before the cause."""
    before, _, why = text.rpartition(_IN_CONFIGURATION)
    layers = _DESERIALIZED.findall(before)
    return f"Error when deserializing class {layers[-1]!r}: {why}" if layers else text


def named_cause(error: BaseException, limit: int = LIMIT) -> str:
    """The cause with the type of the error, for unexpected errors."""
    return f"{type(error).__name__}: {cause(error, limit)}"


def _explanation(paragraph: str) -> str:
    """Its first lines, from the first one that is neither a location nor the line of a program that follows one."""
    lines = pairwise(["", *(line.strip() for line in paragraph.strip().splitlines())])
    informative = takewhile(lambda pair: not _is_noise(*pair), dropwhile(lambda pair: _is_noise(*pair), lines))
    return " ".join(_PREFIX.sub("", line) for _, line in islice(informative, MAX_LINES))


def _is_noise(before: str, line: str) -> bool:
    return line.startswith(_FILE) or before.startswith(_FILE) or bool(_NOISE.match(line))
