"""`tfserve predict`: the form of the input decides what is sent."""

from __future__ import annotations

import json
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfserve.cli.display import note, show_json, show_table
from tfserve.cli.options import Number, WholeNumber, workspace_names
from tfserve.cli.target import Target, remote

if TYPE_CHECKING:
    from tfserve_client import Client

ARRAYS = (".npy", ".npz")
FORM_OPTIONS = {"name": "--input", "signature": "--signature", "top": "--top", "min_score": "--min-score"}
"""Options that only some forms of input have."""


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=workspace_names)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outputs to this file.")
@click.option("--input", "name", metavar="NAME", help="Input that gets the array of a .npy file.  [the only one]")
@click.option("--signature", metavar="NAME", help="Signature of the model.  [serving_default]")
@click.option("--version", metavar="N", help="Version of the model.  [the active one]")
@click.option("--top", type=WholeNumber(min=1), metavar="K", help="Number of classes or boxes per image.")
@click.option("--min-score", type=Number(0, 1), metavar="SCORE", help="Omit boxes with a lower score.")
@remote
def predict(target: Target, model: str, inputs: tuple[str, ...], **options: Any) -> int:
    """Run a model on JSON, arrays, images, or a folder of images.

    \b
    INPUT is one of
      JSON       '[[1.0, 2.0]]' (rows), '{"instances": …}', '{"inputs": …}', a .json file, or - for standard input
      arrays     a .npy file, or a .npz file with one array per input; the outputs are JSON, or written with --output
      images     one or more image files; prints label and score, boxes, or writes the mask with --output
      a folder   of images; writes a CSV file (FOLDER.csv, or --output). Run it again to continue where it stopped
    """
    from tfserve_client import NotFound

    with target.client() as client:
        try:
            return _predict(target, client, model, inputs, options)
        except NotFound:
            client.model(model, options["version"])  # whose error has a hint, unlike that of TensorFlow Serving's API
            raise


def _predict(target: Target, client: Client, model: str, inputs: tuple[str, ...], options: dict[str, Any]) -> int:
    if len(inputs) == 1:
        path = Path(inputs[0])
        if path.is_dir():
            _refuse_others(options, "a folder of images", "top", "min_score")
            return _folder(target, client, model, path, **options)
        if path.suffix in ARRAYS:
            _refuse_others(options, "arrays", "name", "signature")
            return _arrays(client, model, path, **options)
        if (document := _document(inputs[0])) is not None:
            _refuse_others(options, "JSON", "signature")
            return _rows(client, model, document, **options)
    _refuse_others(options, "images", "top", "min_score")
    return _images(target, client, model, [Path(each) for each in inputs], **options)


def _refuse_others(options: dict[str, Any], form: str, *used: str) -> None:
    """Raises `click.UsageError` for an option that says nothing about this form of input."""
    given = next((each for each in FORM_OPTIONS if options[each] is not None and each not in used), None)
    if given is not None:
        raise click.UsageError(f"{FORM_OPTIONS[given]} can't be used with {form}.")


# --- JSON


def _document(given: str) -> Any:
    """The JSON of an input: inline, of standard input, or of a file. None if it is something else."""
    if given == "-":
        return _parsed(sys.stdin.buffer.read(), "standard input")
    if given.lstrip()[:1] in ("[", "{"):
        return _parsed(given, "INPUT")
    return _parsed(_existing(Path(given)).read_bytes(), given) if given.endswith(".json") else None


def _parsed(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except UnicodeDecodeError:
        raise click.BadParameter(f"{where} is not a text in UTF-8.", param_hint="INPUT") from None
    except ValueError as error:
        raise click.BadParameter(f"{where} is not JSON: {error}.", param_hint="INPUT") from None
    except RecursionError:
        raise click.BadParameter(f"{where} has too many lists inside of each other.", param_hint="INPUT") from None


def _rows(
    client: Client, model: str, document: Any, *, signature: str | None, version: str | None,
    output: Path | None, **_: Any,
) -> int:  # fmt: skip
    if not isinstance(document, dict):
        document = {"instances": document if isinstance(document, list) else [document]}
    if _is_of_v2(document):
        if signature:
            document = document | {"parameters": {**(document.get("parameters") or {}), "signature": signature}}
        result: Any = client.infer_json(model, document, version=version)
    else:
        unknown = document.keys() - {"instances", "inputs", "signature_name"}
        if unknown or not document.keys() & {"instances", "inputs"}:
            raise click.BadParameter('expected a list, {"instances": …} or {"inputs": …}.', param_hint="INPUT")
        result = client.predict_rows(
            model, document.get("instances"), inputs=document.get("inputs"), version=version,
            signature_name=signature or document.get("signature_name"),
        )  # fmt: skip
    _put(result, output)
    return 0


def _is_of_v2(document: dict[str, Any]) -> bool:
    inputs = document.get("inputs")
    return isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], dict) and "datatype" in inputs[0]


def _put(result: Any, output: Path | None) -> None:
    if output is None:
        show_json(result)
    else:
        output.write_text(json.dumps(result))


# --- arrays


def _arrays(
    client: Client, model: str, file: Path, *, name: str | None, signature: str | None, version: str | None,
    output: Path | None, **_: Any,
) -> int:  # fmt: skip
    parameters = {"signature": signature} if signature else None
    found = client.infer(model, _loaded(client, model, file, name), version=version, parameters=parameters)
    if output is None:
        show_json({name: _plain(array) for name, array in found.items()})
    else:
        _save(output, found)
    return 0


def _loaded(client: Client, model: str, file: Path, name: str | None) -> dict[str, Any]:
    import numpy as np

    try:
        with _existing(file).open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return dict(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):  # numpy advises to unpickle whatever it can't read
        raise click.BadParameter(
            f"{file} is damaged, or has no array of numbers or texts. Expected a file of numpy.save or numpy.savez.",
            param_hint="INPUT",
        ) from None
    names = [each["name"] for each in client.model(model)["inputs"]] if name is None else [name]
    if len(names) != 1:
        raise click.UsageError(
            f"{model} has the inputs {', '.join(names)}: choose one with --input, or give a .npz file."
        )
    return {names[0]: loaded}


def _save(output: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    if output.suffix == ".npy" and len(arrays) == 1:
        np.save(output, next(iter(arrays.values())), allow_pickle=False)
    elif output.suffix == ".npz":
        np.savez(output, **arrays)
    else:
        raise click.BadParameter(
            f"expected a .npz file for {len(arrays)} outputs, got {output.name}", param_hint="--output"
        )
    note(f"{output}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}")


def _plain(array: Any) -> Any:
    if array.dtype == object:
        return [each.decode(errors="replace") for each in array.ravel().tolist()]
    return array.tolist()


# --- images


def _images(
    target: Target, client: Client, model: str, files: Sequence[Path], *, top: int | None, min_score: float | None,
    version: str | None, output: Path | None, **_: Any,
) -> int:  # fmt: skip
    from tfserve.cli.image_predictions import COLUMNS, plain, rows_of

    found = client.predict_images(model, [*map(_existing, files)], top=top, min_score=min_score, version=version)
    masks = [each["mask"] for each in found if isinstance(each.get("mask"), bytes)]
    if masks and (output is None or len(masks) > 1):
        raise click.UsageError("A mask is an image: give one image and --output FILE.png, or a folder of images.")
    if masks and output is not None:
        output.write_bytes(masks[0])
        note(f"{output}: {len(masks[0])} bytes")
    elif target.as_json or output is not None:
        _put([{"file": str(file), **plain(each)} for file, each in zip(files, found, strict=True)], output)
    else:
        rows = [row for file, each in zip(files, found, strict=True) for row in rows_of(str(file), each)]
        show_table(COLUMNS[:4], [row[:4] for row in rows])
    return 0


def _folder(
    target: Target, client: Client, model: str, folder: Path, *, top: int | None, min_score: float | None,
    version: str | None, output: Path | None, **_: Any,
) -> int:  # fmt: skip
    from tfserve.cli.image_predictions import predict_folder

    output = output or Path(f"{folder.resolve().name}.csv")
    served = f"{model} {version or ', '.join(client.model(model)['versions'])}"

    def ask(file: Path) -> dict[str, Any]:
        return client.predict_images(model, [file], top=top, min_score=min_score, version=version)[0]

    done = predict_folder(folder, output, served, ask)
    if target.as_json:
        show_json({"file": str(output), **done._asdict()})
    else:
        before = f" ({done.before} before)" if done.before else ""
        print(f"{output}: {done.images} images{before}, {done.failed} failed")
    return 1 if done.failed else 0


def _existing(file: Path) -> Path:
    if not file.is_file():
        hint = "" if file.suffix else " Quote JSON, such as '[[1.0, 2.0]]'."
        raise click.BadParameter(f"{str(file)!r} is not a file.{hint}", param_hint="INPUT")
    return file


COMMANDS = {"predict": predict}
