"""Files with the weights of a backbone: which network they belong to, by their content. Needs no Keras and no PyTorch.

PyTorch   a state dict of EfficientNet-Lite0, read without unpickling anything but tensors
HDF5      Keras' weights of a network of keras.applications without its top; `layer_names` marks the older form
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tfserve.errors import Invalid
from tfserve.training.fit import lite_weights
from tfserve.training.fit.torch_file import MAGIC_BYTES
from tfserve.training.fit.uploaded_weights import HDF5, OLD_SUFFIX, UPLOADED
from tfserve.training.recipes.parameters import EFFICIENT_NET, LITE_NET, MOBILE_NET, SMALL_NET

COUNTS = {MOBILE_NET: 2_257_984, EFFICIENT_NET: 4_049_571, SMALL_NET: 939_120}
"""Numbers in the weights without the top."""
NEW_SUFFIX = ".weights.h5"
"""The attribute by which Keras distinguishes its two forms of HDF5 files."""


def network_of(file: Path, names: Sequence[str]) -> str:
    """The network among `names` to which the weights in the file belong. Raises `Invalid`."""
    begin = _begin(file)
    if begin == HDF5:
        return _network_of_hdf5(file, names)
    if _is_torch(file, begin):
        if LITE_NET not in names:
            raise Invalid(
                f"weights: {file} is a PyTorch file, which is supported for {LITE_NET} only; the backbone is"
                f" {' or '.join(names)}. Set backbone to {LITE_NET}, or give Keras weights (.h5)."
            )
        lite_weights.read(file)
        return LITE_NET
    raise Invalid(
        f"weights: {file} is not a weight file: it has {file.stat().st_size} bytes and begins with {begin!r}."
        " Expected: Keras weights without the top in HDF5 (.h5), or a state dict of EfficientNet-Lite0 (.pth)."
    )


@contextmanager
def named_for_keras(file: Path) -> Iterator[Path]:
    """The file under a name with the suffix by which Keras knows its form."""
    suffix = OLD_SUFFIX if _is_old(file) else NEW_SUFFIX
    if file.suffix == OLD_SUFFIX and file.name.endswith(NEW_SUFFIX) == (suffix == NEW_SUFFIX):
        yield file
        return
    with TemporaryDirectory(prefix="tfserve-weights-") as folder:
        link = Path(folder) / (UPLOADED + suffix)
        link.symlink_to(file.resolve())
        yield link


def _is_torch(file: Path, begin: bytes) -> bool:
    return begin == MAGIC_BYTES or zipfile.is_zipfile(file)


def _begin(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(len(HDF5))
    except OSError as error:
        raise Invalid(f"weights: {file} can't be read: {error.strerror}.") from None


# --- HDF5


def _is_old(file: Path) -> bool:
    import h5py

    try:
        with h5py.File(file) as opened:
            return "layer_names" in opened.attrs or "model_weights" in opened
    except Exception:  # a damaged file can raise anything; it is refused when it is checked
        return False


def _network_of_hdf5(file: Path, names: Sequence[str]) -> str:
    count = _count(file)
    known = {name: COUNTS[name] for name in names if name in COUNTS}
    for name, numbers in known.items():
        if numbers == count:
            return name
    expected = ", ".join(f"{name} has {numbers}" for name, numbers in known.items()) or f"{names[0]} takes a .pth file"
    raise Invalid(
        f"weights: {file} has {count} numbers, which matches no backbone without its top ({expected}). Save them with"
        " include_top=False, and set `backbone` to the network."
    )


def _count(file: Path) -> int:
    """How many numbers the file has. Raises `Invalid` for a damaged file, and for one that refers to others."""
    import h5py

    try:
        with h5py.File(file) as opened:
            _refuse_links(opened)
            return sum(_finite(each) for each in _datasets(opened.get("model_weights", opened)))
    except Invalid as error:
        raise Invalid(f"weights: {file}: {error.message}") from None
    except Exception as error:  # a damaged file can make HDF5 raise anything
        raise Invalid(f"weights: {file} can't be read as HDF5: {str(error)[:200]}. Is it truncated?") from error


def _refuse_links(opened: Any) -> None:
    """Links could lead to other files on this server."""
    import h5py

    def name_of_link(name: str, link: Any) -> str | None:  # the first name that is returned ends the search
        return None if isinstance(link, h5py.HardLink) else name

    if (found := opened.visititems_links(name_of_link)) is not None:
        raise Invalid(f"{found} is a link, but weights must be in the file itself.")


def _datasets(group: Any) -> list[Any]:
    """All arrays of numbers, each once."""
    import h5py

    found: list[Any] = []
    group.visititems(lambda _, each: found.append(each) if isinstance(each, h5py.Dataset) else None)
    for each in found:
        if each.external or each.is_virtual:
            raise Invalid(f"{each.name} is in another file, but weights must be in the file itself.")
    numbers = [each for each in found if each.dtype.kind in "fiu"]
    if sum(each.size for each in numbers) > 2 * max(COUNTS.values()):
        raise Invalid("it has more numbers than any backbone.")
    return numbers


def _finite(dataset: Any) -> int:
    """The size of a dataset. Raises `Invalid` for NaN and infinity."""
    if not np.isfinite(dataset[()]).all():
        raise Invalid(f"{dataset.name} has values that are not finite numbers.")
    return int(dataset.size)
