"""Maps the names of a signature to a model file's own tensors.

A conversion renames and reorders, so it writes a `<stem>.signature.json` next to its result. A model that was not
converted by us lacks that file: its own names are the signature's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tfserve.errors import Invalid
from tfserve.runtimes.interface import listed
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Signature, TensorSpec


class Layout(msgspec.Struct, frozen=True):
    """A signature, called `name`, and the file's own name of each of its inputs and outputs, in order."""

    name: str
    signature: Signature
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def own_inputs(self) -> dict[str, str]:
        """The file's own name for each name of the signature; inputs that the file does not have are left out."""
        named = zip(self.signature.input_names, self.inputs, strict=True)
        return {name: own for name, own in named if own} | {each.name: each.name for each in self.signature.optional}

    @property
    def own_outputs(self) -> dict[str, str]:
        return {spec.name: own for spec, own in zip(self.signature.outputs, self.outputs, strict=True)}


def path_of(model: Path) -> Path:
    """The path of a model file's layout, if it has one."""
    return model.with_name(f"{model.stem}.signature.json")


def write(model: Path, layout: Layout) -> None:
    path_of(model).write_bytes(msgspec.json.encode(layout))


def read(model: Path) -> Layout | None:
    """The layout of a converted model. Raises `Invalid` when it is damaged."""
    try:
        return msgspec.json.decode(path_of(model).read_bytes(), type=Layout)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError as error:
        raise Invalid(f"{path_of(model)} is damaged: {error}. Convert the model again.") from error


def plain(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    name: str = DEFAULT_SIGNATURE,
    optional: Sequence[TensorSpec] = (),
) -> Layout:
    """The layout of a model whose own names are the signature's."""
    names = [tuple(spec.name for spec in specs) for specs in (inputs, outputs)]
    return Layout(name, Signature(tuple(inputs), tuple(outputs), optional=tuple(optional)), *names)


def check(layout: Layout, path: Path, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
    """Raises `Invalid` unless the file has the tensors that the layout names."""
    for requested, known, what in ((layout.inputs, inputs, "inputs"), (layout.outputs, outputs, "outputs")):
        if lost := [name for name in requested if name and name not in known]:
            raise Invalid(
                f"{path} and its {path_of(path).name} do not match: {listed(lost)} are not among the model's {what}."
            )
