"""What a file is that is not an image which this server reads: for error messages."""

from __future__ import annotations

import re

_FTYP = b"ftyp"
_STARTS = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"\0\0\1\0": "an icon (.ico)",
    b"SIMPLE  =": "FITS",
    b"gimp xcf": "GIMP",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"PK\3\4": "a zip file",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
}
_NETPBM = re.compile(rb"P[1-7]\s")
_SVG = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_DICOM, _HEAD = 128, 1024


def described(data: bytes) -> str:
    """`JPEG XL`, `a web page, maybe the error of a download`, or an empty string."""
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    head = data[:_HEAD]
    if _NETPBM.match(head):
        return "Netpbm (.ppm, .pgm, .pbm)"
    if _HTML.match(head):
        return "a web page, maybe the error of a download"
    if _SVG.search(head):
        return "SVG"
    if data[_DICOM : _DICOM + 4] == b"DICM":
        return "DICOM"
    if data[4:12] == _FTYP + b"crx ":
        return "raw data of a camera"
    is_riff = head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"WAVE")
    return "a video or sound" if data[4:8] == _FTYP or is_riff or head.startswith(b"\x1a\x45\xdf\xa3") else ""
