"""The state of a dataset check, and how it reads files: safely, in threads, in order."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from tfserve.colours import Colour
from tfserve.errors import Invalid
from tfserve.runtimes import image_files
from tfserve.runtimes.image_files import WHITE
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.dataset_index import TWIN, ImageFile, Skipped
from tfserve.training.dataset.image_reading import Bad
from tfserve.training.dataset.project_folders import FEEDBACK, MODELS, Bounds, results_folder

MAX_BAD_SHARE = 0.2
MAX_PATHS = 10
"""Maximum paths listed in one problem message."""
MAX_DEPTH = 6
"""Folders below the first that are searched for images."""
IGNORED_FOLDERS = frozenset({MODELS, "__macosx", "__pycache__", "node_modules"})
"""Names, in lower case, of folders at the top that are never part of a data set."""

UNLABELLED = "a test image without a label"
EXPECTED = (TWIN, UNLABELLED)
"""Beginnings of the reasons for which files may be left out in any number."""

SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Names, in lower case, of folders that systems add anywhere."""

NOTE_SUFFIXES = (
    ".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".yaml", ".yml", ".html", ".ini", ".db", ".pdf", ".jsonl",
    ".ndjson", ".manifest", ".labels",
)  # fmt: skip
OTHER_SUFFIXES = (
    *NOTE_SUFFIXES, ".zip", ".gz", ".tar", ".tgz", ".npy", ".npz", ".h5", ".pth", ".onnx", ".tflite", ".mp4", ".mov",
    ".dng", ".cr2",
    ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".svs", ".psd",
)  # fmt: skip
"""Suffixes of files that are not used as images, such as raw camera data, regardless of their content."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CHUNK = 256

T = TypeVar("T")
R = TypeVar("R")


class Labelled(NamedTuple):
    """An image file as a layout describes it. `name` is the class as the user writes it."""

    path: Path
    name: str
    part: str = ""
    group: str = ""


class Search:
    """The result so far.

    `root` is the folder with the data set: the project, a folder in it, or what was unpacked. `work` is a folder for
    files made from the project's, such as masks drawn from polygons.
    """

    def __init__(
        self, project: Path, threads: int, bounds: Bounds, work: Path | None = None, background: Colour = WHITE
    ) -> None:
        self.project = project
        self.root = project
        self.results = results_folder(project)
        self.bounds = bounds
        self.threads = threads
        self.layout = ""
        #: a sentence about what is missing for a layout that almost fits
        self.hint = ""
        self.ignore: int | None = None
        self.labels: list[str] = []
        self.display: list[str] = []
        self.numbers: list[int] = []
        self.images: list[ImageFile] = []
        self.skipped: list[Skipped] = []
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.bad: Counter[str] = Counter()
        self.background = background
        self.properties: dict[str, image_reading.ImageProperties] = {}
        #: class folders without any image file, by the name of the class
        self.empty_classes: dict[str, Path] = {}
        #: folder → the archive that was unpacked into it
        self.unpacked: dict[Path, Path] = {}
        #: folders that no reader sees
        self.left_out: set[Path] = set()
        #: link next to unpacked files → the file in the project that it leads to
        self.linked: dict[Path, Path] = {}
        self._work = work
        self._seen: dict[str, ImageFile] = {}
        self._twins: list[str] = []

    @property
    def images_folder(self) -> Path:
        return self.root / "images"

    def work(self, name: str) -> Path:
        """A new private folder for files made from the project's. Raises `Invalid` if there is nowhere to put it."""
        if self._work is None:
            raise Invalid(
                f"{self.project} must be converted before training, but no folder for the conversion was given."
            )
        folder = self._work / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    # --- what is on disk

    def problems_of_places(self, *names: str) -> list[str]:
        """A problem for each folder outside the allowed ones."""
        return [problem for name in names for problem in self.bounds.problems(self.project / name)]

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is in a folder by name, without what desktops and systems add."""
        try:
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not _is_hidden(entry.name)]
        except OSError as error:
            problem = f"{folder} can't be read: {error.strerror}."
            self.problems += [] if problem in self.problems else [problem]
            return []
        return sorted(
            (entry for entry in visible if not self.left_out or Path(entry.path) not in self.left_out),
            key=lambda entry: entry.name,
        )

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder that may be read and whose names are UTF-8."""
        paths = [Path(entry.path) for entry in self.entries(folder) if is_folder(entry)]
        return [path for path in paths if is_utf8(path.name) and self.bounds.contain(path)]

    def data_folders(self, folder: Path) -> list[Path]:
        """As `folders`, without those that never belong to a data set."""
        return [path for path in self.folders(folder) if path.name.lower() not in IGNORED_FOLDERS]

    def files(self, folder: Path, suffixes: tuple[str, ...], what: str, *, depth: int = MAX_DEPTH) -> list[Path]:
        """The files below a folder with such suffixes, in the order of their names; others are skipped and listed."""
        found = []
        for entry in self.entries(folder):
            path = Path(entry.path)
            if reason := self._reason_to_skip(entry, depth):
                self.skip(path, reason)
            elif is_folder(entry):
                found += self.files(path, suffixes, what, depth=depth - 1)
            elif _is_one_of(path, suffixes):
                found.append(path)
            else:
                self.skip(path, f"not {what} file (expected {', '.join(suffixes)})")
        return found

    def below(self, folder: Path, suffixes: tuple[str, ...], *, depth: int = MAX_DEPTH) -> list[Path]:
        """As `files`, without listing the others. Without suffixes all files."""
        found = []
        for entry in self.entries(folder):
            path = Path(entry.path)
            if self._reason_to_skip(entry, depth):
                continue
            if is_folder(entry):
                ignored = folder == self.root and path.name.lower() in IGNORED_FOLDERS
                found += [] if ignored else self.below(path, suffixes, depth=depth - 1)
            elif not suffixes or _is_one_of(path, suffixes):
                found.append(path)
        return found

    def _reason_to_skip(self, entry: os.DirEntry[str], depth: int) -> str:
        if not is_utf8(entry.name):
            return "its name is not valid UTF-8: rename it"
        if entry.is_symlink() and not self.bounds.contain(Path(entry.path)):
            return "a link that leads outside the folders that this server may use"
        if is_folder(entry) and (depth <= 0 or _leads_to_itself(entry)):
            return "a folder that is nested too deeply"
        return ""

    # --- what is kept

    def examine(self, files: Sequence[Labelled], labels: Sequence[int]) -> list[tuple[Labelled, ImageFile]]:
        """Keeps the good images among these files, each with its label, and returns them."""
        kept = []
        for (file, label), found in in_threads(self._inspect, zip(files, labels, strict=True), self.threads):
            if isinstance(found, Bad):
                self.skip(file.path, str(found), bad=True)
            elif image := self._keep(file, found, label):
                kept.append((file, image))
        return kept

    def skip(self, path: Path, reason: str, *, bad: bool = False) -> None:
        self.skipped.append(Skipped(self.name(path), reason))
        if bad:
            self.bad[reason.partition(":")[0]] += 1

    def relative(self, path: Path) -> str:
        """The path from the project folder; an absolute one where it lies elsewhere."""
        return shown(path.relative_to(self.project) if path.is_relative_to(self.project) else path)

    def name(self, path: Path) -> str:
        """The path as people know it: that of an unpacked file begins with its archive."""
        path = self.linked.get(path, path)
        for folder, archive in reversed(self.unpacked.items()):  # inner archives come after those that they are in
            if path == folder:
                return self.relative(archive)
            if path.is_relative_to(folder):
                return f"{self.relative(archive)}/{shown(path.relative_to(folder))}"
        return self.relative(path)

    def check_share_of_bad(self) -> None:
        bad = self.bad.total()
        inspected = len(self.images) + bad
        if bad > MAX_BAD_SHARE * inspected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.bad.most_common(4))
            self.problems.append(
                f"{bad} of {inspected} images in {self.root} can't be used ({reasons}), more than"
                f" {MAX_BAD_SHARE:.0%}. Replace or remove them."
            )

    def report_twins(self) -> None:
        self.problems += sentence("The same image is in two classes, so one of the labels must be wrong", self._twins)

    def _inspect(self, item: tuple[Labelled, int]) -> image_reading.ImageProperties | Bad:
        try:
            return image_reading.inspect(item[0].path, self.background)
        except Bad as bad:
            return bad

    def _keep(self, file: Labelled, found: image_reading.ImageProperties, label: int) -> ImageFile | None:
        image = ImageFile(
            self.relative(file.path), found.width, found.height, found.grey, found.digest, label,
            part=file.part, group=file.group,
        )  # fmt: skip
        twin = self._seen.setdefault(found.digest, image)
        if twin is image:
            self.images.append(image)
            self.properties[image.path] = found
            return image
        if twin.label != label and twin.path.startswith(f"{self.relative(self.results / FEEDBACK)}/"):
            self.skip(file.path, f"its label was corrected by feedback: {twin.path}")
        elif twin.label != label:
            self._twins.append(f"{self.project / twin.path} and {file.path}")
        else:
            self.skip(file.path, f"{TWIN} {twin.path}")
        return None


# --- files and names


def in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, in order; a chunk at a time, so that memory does not grow with their number."""
    rest = iter(items)
    with ThreadPoolExecutor(threads) as executor:
        while chunk := list(islice(rest, _CHUNK)):
            yield from zip(chunk, executor.map(function, chunk), strict=True)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_image(path: Path) -> bool:
    """By the suffix, or for a suffix that says nothing by the first bytes: `a`, `b.jpg_large`, `c.tmp`."""
    suffix = path.suffix.lower()
    if suffix in image_reading.SUFFIXES or suffix in OTHER_SUFFIXES:
        return suffix in image_reading.SUFFIXES
    try:
        if not path.is_file():  # reading from a pipe would block forever
            return False
        with path.open("rb") as opened:
            return image_files.format_of(opened.read(image_files.HEAD_BYTES)) is not None
    except OSError:
        return False


def _is_one_of(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes or (set(image_reading.SUFFIXES) <= {*suffixes} and is_image(path))


def _leads_to_itself(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder that it is in."""
    return entry.is_symlink() and Path(entry.path).parent.resolve().is_relative_to(os.path.realpath(entry.path))


def is_utf8(name: str) -> bool:
    """Other names can't be sent as JSON, nor to the worker that trains."""
    return name.isascii() or shown(name) == name


def shown(path: str | Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def same_form(name: str) -> str:
    """The name in the form in which names are compared and shown.

    macOS writes é as two characters, others as one. Line breaks, as spreadsheets have them in cells, become blanks:
    lists of classes have a name on each line.
    """
    return _CONTROL.sub(" ", unicodedata.normalize("NFC", name))


def sentence(what: str, where: Sequence[str]) -> list[str]:
    """One sentence about all paths with the same problem; empty without paths."""
    if not where:
        return []
    more = f" and {len(where) - MAX_PATHS} more" if len(where) > MAX_PATHS else ""
    return [f"{what}: {', '.join(where[:MAX_PATHS])}{more}."]
