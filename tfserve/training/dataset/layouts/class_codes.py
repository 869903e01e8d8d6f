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
from tfserve.training.dataset.layouts import table_text as cells_of
from tfserve.training.dataset.search import Search, same_form

SUFFIXES = (".csv", ".tsv", ".txt", ".json")
MAX_BYTES = 4 * 2**20
MAX_FILES, MAX_LINE = 50, 500
_CODE = re.compile(r"-?\d{1,9}|n\d{8}|/[mg]/\w+")
_FILE = re.compile(r"class|label|name|categor|map|synset|word|dict|species|breed|target|disease|legend", re.IGNORECASE)
_PAIR = re.compile(r"""\s*["']?([^\s,;\t"':=]+)["']?\s*(?:[,;:=]|\s)\s*(.+?)\s*""")
"""A code without blanks, then a name with any."""
_NUMBER = re.compile(r"(?=.*\d)[-+]?[\d.,\s]+(?:e[-+]?\d+)?%?|#[\da-f]{3,8}", re.IGNORECASE)
"""Numbers and colours: weights, counts, `255 0 0`, `#ff0000`."""
_NAME_HEADERS = (
    "name", "class_name", "classname", "label_name", "labelname", "category_name", "display_name", "displayname",
    "title", "label", "class", "category", "species", "breed", "disease", "word", "words", "description",
)  # fmt: skip
"""Of a column with names, the most certain first."""
_CODE_HEADERS = ("class_id", "classid", "label_id", "labelid", "category_id", "class", "label", "code", "id")
_LAST = re.compile(r"\s*(.+?)\s*[,;:=\t]\s*([^\s,;]+)\s*")
"""A name, then a code."""


def names(search: Search, codes: Collection[str], tables: Collection[Path]) -> dict[str, str] | None:
    """Code → name, with a remark about the file; None unless a file that is not one of `tables` names all codes."""
    if not codes or not all(map(_CODE.fullmatch, codes)):
        return None
    files = search.below(search.root, SUFFIXES, depth=2)
    for path in [each for each in files if each not in tables and _FILE.search(each.stem)][:MAX_FILES]:
        for pairs in _readings(path, codes):
            found = {code: same_form(pairs.get(code, "").strip()) for code in codes}
            if _are_names(list(found.values())):
                search.remarks.append(f"Class names come from {search.name(path)}.")
                return found
    return None


def is_number(text: str) -> bool:
    """Also several, and colours."""
    return bool(_NUMBER.fullmatch(text))


def _are_names(texts: Sequence[str]) -> bool:
    """Whether there is one for each class: the same for two would make them one class."""
    return all(texts) and len({*texts}) == len(texts) and not any(map(_is_no_name, texts))


def _is_no_name(text: str) -> bool:
    """Another code, a number, or the name of an image."""
    return bool(_CODE.fullmatch(text)) or is_number(text) or text.lower().endswith(image_reading.SUFFIXES)


def _readings(path: Path, codes: Collection[str]) -> Iterable[Mapping[str, str]]:
    """What the file may mean: code → name, as its lines or its JSON have them."""
    try:
        text = text_reading.read(path) if path.is_file() and path.stat().st_size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return []
    if path.suffix.lower() == ".json":
        return _of_json(text)
    lines = [line for line in text.splitlines() if len(line) <= MAX_LINE]
    if columns := _columns(path, lines):
        return _of_columns(columns, codes)
    forward = [match.groups() for line in lines if (match := _PAIR.fullmatch(line))]
    backward = [match.groups() for line in lines if (match := _LAST.fullmatch(line))]
    return [_once((code, name.strip("\"'")) for code, name in forward), _once((code, name) for name, code in backward)]


def _columns(path: Path, lines: Sequence[str]) -> list[list[str]]:
    """The columns of a table with more than two. Empty for others: commas in lines of text may be part of the names."""
    delimiter = cells_of.delimiter_of(lines[: cells_of.SAMPLE])
    if not delimiter:
        return []
    rows = cells_of.rows(path)
    rows = rows[cells_of.titles(rows) :]
    widths = [len(row) for row in rows]
    width = max({*widths}, key=widths.count, default=0)
    has_header = bool(rows) and any(cells_of.plain(cell) in _NAME_HEADERS for cell in rows[0])
    if width < 3 or not (has_header or delimiter == "\t" or path.suffix.lower() in (".csv", ".tsv")):
        return []
    return [[row[column].strip() if column < len(row) else "" for row in rows] for column in range(width)]


def _of_columns(columns: Sequence[Sequence[str]], codes: Collection[str]) -> Iterable[dict[str, str]]:
    """Code → name for each column that may have the names: those that are called so first, then those that follow."""
    headers = [cells_of.plain(column[0]) for column in columns]
    with_codes = [at for at, column in enumerate(columns) if all(column.count(code) == 1 for code in codes)]
    if not with_codes:
        return
    of_codes = min(with_codes, key=lambda at: _rank(headers[at], _CODE_HEADERS))
    others = [*range(of_codes + 1, len(columns)), *range(of_codes)]
    for at in sorted(others, key=lambda each: _rank(headers[each], _NAME_HEADERS)):
        yield dict(zip(columns[of_codes], columns[at], strict=True))


def _rank(header: str, known: Sequence[str]) -> int:
    return known.index(header) if header in known else len(known)


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
