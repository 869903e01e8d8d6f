"""Which of a model file's own tensors a signature's names mean.

A conversion renames and reorders, so it leaves a `<stem>.signature.json` beside what it has made. A model that was not
converted by us has no such file: its own names are the signature's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tfserve.errors import Invalid
from tfserve.runtimes.interface import listed
from tfserve.tensors import DEFAULT_SIGNATURE, Signature, TensorSpec


class Layout(msgspec.Struct, frozen=True):
    """A signature, called `name`, and the file's own name of each of its inputs and outputs, in order."""

    name: str
    signature: Signature
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def own_inputs(self) -> dict[str, str]:
        """The file's own name for each name of the signature; inputs that the file does not have are left out."""
        names = (spec.name for spec in self.signature.inputs)
        return {name: own for name, own in zip(names, self.inputs, strict=True) if own}

    @property
    def own_outputs(self) -> dict[str, str]:
        return {spec.name: own for spec, own in zip(self.signature.outputs, self.outputs, strict=True)}


def place(model: Path) -> Path:
    """Where the layout of a model file is, if it has one."""
    return model.with_name(f"{model.stem}.signature.json")


def write(model: Path, layout: Layout) -> None:
    place(model).write_bytes(msgspec.json.encode(layout))


def read(model: Path) -> Layout | None:
    """The layout beside a model that was converted. Raises `Invalid` when it is damaged."""
    try:
        return msgspec.json.decode(place(model).read_bytes(), type=Layout)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise Invalid(f"{place(model)} is damaged: {error}. Convert the model again.") from error


def plain(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], name: str = DEFAULT_SIGNATURE) -> Layout:
    """The layout of a model whose own names are the signature's."""
    names = [tuple(spec.name for spec in specs) for specs in (inputs, outputs)]
    return Layout(name, Signature(tuple(inputs), tuple(outputs)), *names)


def check(layout: Layout, path: Path, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
    """Raises `Invalid` unless the file has the tensors that the layout names."""
    for wanted, known, what in ((layout.inputs, inputs, "inputs"), (layout.outputs, outputs, "outputs")):
        if lost := [name for name in wanted if name and name not in known]:
            raise Invalid(f"{path} and its {place(path).name} don't belong together: {listed(lost)} are no {what}.")
