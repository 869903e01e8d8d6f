"""What the values and colours in a project's masks mean: decided once for all of them, never for one file alone.

grey levels, palette numbers     the values themselves
a palette that is a ramp of grey its levels, as if the masks were grey
colours, named in labels_info    the class of each colour; the masks are converted
255 (or `ignore`)                pixels of no known class: neither learnt from nor measured
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.tensors import Array
from tfserve.training import masks
from tfserve.training.masks import Look
from tfserve.training.search import sentence

IGNORE = 255
IGNORE_NAMES = frozenset({
    "ignore", "ignored", "ignore label", "void", "unlabeled", "unlabelled", "ambiguous", "border", "boundary",
    "dont care", "don t care", "undefined", "unknown", "uncertain",
})  # fmt: skip
"""In lower case, with blanks for underscores."""
SMALL = 32
"""Values that begin below it are numbers of classes, not levels of grey; 255 next to them is no class."""

Convert = Callable[[Path], Array]


@dataclass
class Meaning:
    """How masks are read: `convert` gives the values of a file, None where `masks.read` does it already."""

    convert: Convert | None = None
    #: values that have a name because their colour has one
    numbers: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def meaning(looks: Mapping[Path, Look], colours: Mapping[str, str]) -> Meaning:
    """How to read these masks. `colours` are `#rrggbb` by label, from a file that names them."""
    coloured = [path for path, look in looks.items() if not look.values and look.colours]
    with_palette = [path for path, look in looks.items() if look.has_palette]
    if colours and (coloured or with_palette):
        return _by_colour(looks, colours)
    if coloured:
        return Meaning(problems=[_unnamed_colours(looks, coloured)])
    if with_palette and all(looks[path].is_ramp for path in with_palette):
        return Meaning(_levels if any(_differs(looks[path]) for path in with_palette) else None)
    return Meaning(problems=_different_palettes(looks, with_palette))


def _by_colour(looks: Mapping[Path, Look], colours: Mapping[str, str]) -> Meaning:
    """Classes are numbered in the order of the file that names the colours; black that has no name is background."""
    number_of = {int(colour[1:], 16): label for label, colour in colours.items()}
    numbers = _numbered(colours)
    value_of = {colour: numbers[label] for colour, label in number_of.items()}
    value_of.setdefault(0, 0)
    if all(not look.colours for look in looks.values()):
        return Meaning(problems=["labels_info.txt names colours, but the masks are grey."])
    unknown: Counter[int] = Counter()
    for look in looks.values():
        unknown.update({colour for colour in _colours_of(look) if colour not in value_of})
    problems = sentence(
        "The masks have colours that are not named. Add lines '<label>,#rrggbb' to labels_info.txt for",
        [f"#{colour:06x} (in {number} masks)" for colour, number in unknown.most_common()],
    )
    table = np.array(sorted(value_of), np.uint32)
    values = np.array([value_of[int(colour)] for colour in table], np.uint8)

    def convert(path: Path) -> Array:
        found = masks.colours(path)
        return np.asarray(values[np.searchsorted(table, found).clip(max=len(table) - 1)])

    return Meaning(convert, numbers, problems)


def _numbered(colours: Mapping[str, str]) -> dict[str, int]:
    """0 for the background, 255 for what is to be ignored, 1, 2, … for the others in their order."""
    background = next((label for label in colours if label == "background"), None) or next(
        (label for label, colour in colours.items() if colour == "#000000" and not is_ignored(label)), None
    )
    numbers = {label: IGNORE for label in colours if is_ignored(label)}
    others = [label for label in colours if label != background and label not in numbers]
    if background is not None:
        numbers[background] = 0
    return numbers | {label: number for number, label in enumerate(others, start=1)}


def _colours_of(look: Look) -> Sequence[int]:
    if look.colours:
        return list(look.colours.values())
    return [value * 0x10101 for value in look.values]


def _unnamed_colours(looks: Mapping[Path, Look], coloured: Sequence[Path]) -> str:
    counts = Counter(colour for path in coloured for colour in looks[path].colours)
    shown = ", ".join(f"#{colour:06x}" for colour, _ in counts.most_common(12))
    more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
    return (
        f"{len(coloured)} masks have colours (such as {coloured[0]}: {shown}{more}), and it is not known which class"
        " each means. Name them in labels_info.txt: a header line, then '<label>,#rrggbb' for each class."
    )


def _levels(path: Path) -> Array:
    return (masks.colours(path) & 0xFF).astype(np.uint8)


def _differs(look: Look) -> bool:
    """Whether numbers in the palette are not the levels themselves."""
    return any(value * 0x10101 != colour for value, colour in look.colours.items())


def _different_palettes(looks: Mapping[Path, Look], with_palette: Sequence[Path]) -> list[str]:
    """A number must mean the same colour in all masks, else programs have chosen the numbers for each file anew."""
    first: dict[int, tuple[int, Path]] = {}
    for path in with_palette:
        for value, colour in looks[path].colours.items():
            known, where = first.setdefault(value, (colour, path))
            if known != colour:
                return [
                    f"The palettes of the masks differ: {value} is #{known:06x} in {where} and #{colour:06x} in {path},"
                    " so it is not known what a number means. Name the colours in labels_info.txt: a header line, then"
                    " '<label>,#rrggbb' for each class."
                ]
    return []


def is_ignored(name: str) -> bool:
    return name.strip().lower().replace("_", " ").strip() in IGNORE_NAMES


def ignored_value(values: Sequence[int], names: Mapping[int, str], parameter: Any, *, has_palette: bool) -> int | None:
    """The value of pixels of no class: as the parameter or a name says, else 255 next to numbers of classes."""
    if parameter == "none":
        return None
    if isinstance(parameter, int):
        return parameter
    if named := [value for value, name in names.items() if value and is_ignored(name)]:
        return named[0]
    others = [value for value in values if value not in (0, IGNORE)]
    if IGNORE not in values or IGNORE in names or not others:
        return None
    numbers = sorted({0, *others, IGNORE})
    is_even = len({b - a for a, b in pairwise(numbers)}) == 1
    return IGNORE if has_palette or (min(others) < SMALL and not is_even) else None
