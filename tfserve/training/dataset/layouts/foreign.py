"""Files of programs that this server does not read, and what to do with them: a sentence for the error message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfserve.training.dataset.search import Search, words

HEAD_BYTES = 64 * 1024
MAX_READ = 20
"""Text files of each type whose beginning is read."""
ARRAYS = words(
    ".npy .npz .mat .h5 .hdf5 .tfrecord .tfrecords .record .parquet .arrow .feather .lmdb .mdb .rec .pkl .pickle .pt"
    " .pth .safetensors .sqlite .idx .ubyte"
)
VIDEOS = words(".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv .flv .ts")
DOCUMENTS = words(".pdf .ps .eps .docx .doc .pptx .djvu")
IMAGES = words(
    ".jxl .jp2 .j2k .jpx .ppm .pgm .pbm .pnm .svg .psd .xcf .dcm .dicom .nii .nrrd .mha .exr .hdr .tga .ico .pcx .fits"
    " .fit .czi .lif .nd2 .svs .dng .cr2 .cr3 .nef .arw .orf .rw2 .raf .pef .srw"
)
SHEETS = words(".xlsx .xls .ods .numbers")
PACKED = words(".7z .rar .xz .bz2 .zst .tbz2 .txz .tm")
_ADVICE = (
    (ARRAYS, "hold arrays or records, which are not read: write each image to a PNG or JPEG file, in a folder for each"
             " class or with a table of files and labels"),
    (IMAGES, "are in a format that is not read: convert them to PNG, JPEG or TIFF"),
    (VIDEOS, "are videos, which are not read: save some of their frames as images"),
    (DOCUMENTS, "are documents, which are not read: save their pages as images"),
    (SHEETS, "are spreadsheets, which are not read: save them as CSV"),
    (PACKED, "are archives that are not read: unpack them, or pack the images as .zip or .tar.gz"),
)  # fmt: skip
_IDX = re.compile(
    r"-(images|labels)[-.]idx\d-ubyte(\.gz)?$|\.tfrecords?-\d+|(^|/)(data_batch_\d|test_batch|batches\.meta)$"
)
"""MNIST, TensorFlow Datasets and CIFAR: names of arrays whose suffix says nothing."""
_PIECE = re.compile(r"\.(zip|7z|tar)\.\d{3}$|\.z\d\d$", re.IGNORECASE)
_CVAT = re.compile(r"<annotations>.{0,5000}?<(image|track)\b", re.DOTALL)
_LABEL_STUDIO = re.compile(r'"from_name"\s*:')
_FIFTYONE = re.compile(r'"_cls"\s*:')
_LABELBOX = re.compile(r'"data_row"\s*:|"DataRow ID"')
_VOTT = re.compile(r'"assets"\s*:.{0,5000}?"boundingBox"|"lastVisitedAssetId"', re.DOTALL)
_DARWIN = re.compile(r'"item"\s*:.{0,5000}?"bounding_box"', re.DOTALL)
_CAPTIONS = re.compile(r'"caption"\s*:')
_PANOPTIC = re.compile(r'"segments_info"\s*:')
_DOTA = re.compile(r"^(-?\d+(\.\d+)? ){8}[A-Za-z][\w-]* \d\s*$", re.MULTILINE)
_SUPERVISELY = re.compile(r'"classTitle"\s*:|"geometryType"\s*:')
_RUN_LENGTHS = re.compile(r"encodedpixels|\brle\b", re.IGNORECASE)
_RESULTS = re.compile(r'\A\s*\[\s*\{[^{}]*"image_id"')
_VIA_TABLE = re.compile(r"region_shape_attributes")
_KITTI = re.compile(r"^[A-Za-z_]+ -?\d+(\.\d+)? -?\d+ -?\d+(\.\d+)?( -?\d+(\.\d+)?){11,12}\s*$", re.MULTILINE)
_OTHER_JSON = "is {}'s own format, which is not read: convert it to COCO or YOLO"
_PROGRAMS = (
    (".xml", _CVAT, "is CVAT's own format, which is not read: export the task as COCO 1.0 or Pascal VOC"),
    (".json", _LABEL_STUDIO, "is Label Studio's own format: export the project as COCO, YOLO or Pascal VOC, or, for"
                             " classes of whole images, as JSON-MIN or CSV, or, for brushes, as PNG masks"),
    (".json", _FIFTYONE, "is FiftyOne's own format, which is not read: export the dataset as COCO or YOLO, or as"
                         " FiftyOneImageClassificationDataset"),
    (".json", _SUPERVISELY, "is Supervisely's own format, which is not read: export the project as COCO or YOLO"),
    (".ndjson", _LABELBOX, _OTHER_JSON.format("Labelbox")),
    (".json", _LABELBOX, _OTHER_JSON.format("Labelbox")),
    (".json", _VOTT, "is VoTT's own format, which is not read: export the project as CSV or Pascal VOC"),
    (".json", _DARWIN, _OTHER_JSON.format("V7 Darwin")),
    (".json", _CAPTIONS, "has COCO's captions, which are not labels: use the file with the instances"),
    (".json", _PANOPTIC, "is in COCO's panoptic format, which is not read: use the file with the instances"),
    (".txt", _DOTA, "is in the format of DOTA, which is not read: convert it to YOLO with outlines"),
    (".csv", _RUN_LENGTHS, "has run lengths, which are not read from tables: write a PNG mask with the name of each"
                           " image"),
    (".json", _RESULTS, "is a list of annotations without images and categories: use the whole COCO file"),
    (".csv", _VIA_TABLE, "is a table of the VGG Image Annotator, which is not read: export its annotations as JSON"),
    (".txt", _KITTI, "is in the format of KITTI, which is not read: convert it to YOLO, COCO or a CSV file with the"
                     " columns filename, class, xmin, ymin, xmax, ymax"),
)  # fmt: skip


def hint(search: Search) -> str:
    """A sentence with a blank before it for each type that was found; empty without any."""
    found = search.below(search.root, ()) if search.root.is_dir() else [search.root]
    names = list(dict.fromkeys([*map(search.name, found), *(each.path for each in search.skipped)]))
    return "".join(f" {each}." for each in (*_by_suffix(names), *_by_content(search, found)))


def _by_suffix(names: Sequence[str]) -> Iterator[str]:
    for suffixes, advice in _ADVICE:
        fitting = [name for name in names if Path(name).suffix.lower() in suffixes]
        if suffixes is ARRAYS:
            fitting += [name for name in names if _IDX.search(name)]
        if suffixes is PACKED:
            fitting += [name for name in names if _PIECE.search(name)]
        if fitting:
            yield f"{len(fitting)} files ({fitting[0]}{', …' if len(fitting) > 1 else ''}) {advice}"


def _by_content(search: Search, files: Sequence[Path]) -> Iterator[str]:
    for suffix, pattern, advice in _PROGRAMS:
        for path in [path for path in files if path.suffix.lower() == suffix][:MAX_READ]:
            if pattern.search(_head(path)):
                yield f"{search.name(path)} {advice}"
                break


def _head(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return opened.read(HEAD_BYTES).decode(errors="replace")
    except OSError:
        return ""
