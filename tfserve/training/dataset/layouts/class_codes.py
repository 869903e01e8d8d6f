"""Names for classes that a table gives as codes: numbers, WordNet's `n01440764`, Open Images' `/m/01yrx`.

They come from a file of pairs (`classes.csv`, `class-descriptions.csv`, `synset_words.txt`, `label_map.json`) in either
order that has a name for each code.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfserve.training.dataset import image_reading, json_reading, text_reading
from tfserve.training.dataset.search import Search, same_form

SUFFIXES = (".csv", ".tsv", ".txt", ".json")
MAX_BYTES = 4 * 2**20
MAX_FILES, MAX_LINE = 50, 500
_CODE = re.compile(r"-?\d{1,9}|n\d{8}|/[mg]/\w+")
_FILE = re.compile(r"class|label|name|categor|map|synset|word|dict|species|breed|target|disease|legend", re.IGNORECASE)
_PAIR = re.compile(r"""\s*["']?([^\s,;\t"':=]+)["']?\s*(?:[,;:=]|\s)\s*(.+?)\s*""")
"""A code without blanks, then a name with any."""
_LAST = re.compile(r"\s*(.+?)\s*[,;:=\t]\s*([^\s,;]+)\s*")
"""A name, then a code."""


def names(search: Search, codes: Collection[str], tables: Collection[Path]) -> dict[str, str] | None:
    """Code → name, with a remark about the file; None unless a file that is not one of `tables` names all codes."""
    if not codes or not all(map(_CODE.fullmatch, codes)):
        return None
    files = search.below(search.root, SUFFIXES, depth=2)
    for path in [each for each in files if each not in tables and _FILE.search(each.stem)][:MAX_FILES]:
        for pairs in _readings(path):
            found = {code: same_form(pairs.get(code, "").strip()) for code in codes}
            if all(found.values()) and not any(map(_is_no_name, found.values())):
                search.remarks.append(f"Class names come from {search.name(path)}.")
                return found
    return None


def _is_no_name(text: str) -> bool:
    """Another code, or the name of an image."""
    return bool(_CODE.fullmatch(text)) or text.lower().endswith(image_reading.SUFFIXES)


def _readings(path: Path) -> Iterable[Mapping[str, str]]:
    """What the file may mean: code → name, as its lines or its JSON have them."""
    try:
        text = text_reading.read(path) if path.is_file() and path.stat().st_size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return []
    if path.suffix.lower() == ".json":
        return _of_json(text)
    lines = [line for line in text.splitlines() if len(line) <= MAX_LINE]
    forward = [match.groups() for line in lines if (match := _PAIR.fullmatch(line))]
    backward = [match.groups() for line in lines if (match := _LAST.fullmatch(line))]
    return [_once((code, name.strip("\"'")) for code, name in forward), _once((code, name) for name, code in backward)]


def _of_json(text: str) -> list[dict[str, str]]:
    """`{"0": "cat"}`, `{"cat": 0}`, and `{"0": ["n02123045", "tabby"]}`."""
    try:
        content = json_reading.parsed(text)
    except ValueError:
        return []
    if not isinstance(content, dict):
        return []
    pairs = [(str(key), _last(value)) for key, value in content.items()]
    return [_once(pairs), _once((value, key) for key, value in pairs)]


def _last(value: Any) -> str:
    """Of a list its last element."""
    last = value[-1] if isinstance(value, Sequence) and not isinstance(value, str) and value else value
    return str(last) if isinstance(last, (str, int)) else ""


def _once(pairs: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """Empty if a code has two names."""
    found: dict[str, str] = {}
    for code, name in pairs:
        if found.setdefault(code, name) != name:
            return {}
    return found
