"""The rows of a batch's input and the lines of its output."""

from __future__ import annotations

import json
import os
import select
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tfserve import batch_formats
from tfserve.batch_formats import check_input
from tfserve.errors import Invalid
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.batch.csv_columns import Columns
from tfserve.web.batch.inputs import CsvLines, Images, InputRow, JsonLines
from tfserve.web.batch.output_file import OutputFile
from tfserve.web.batch.outputs import ComputedRow, CsvWriter, JsonLinesWriter, columns_of

VECTOR = Signature((TensorSpec("x", "float32", (-1, 2)),), (TensorSpec("y", "float32", (-1, 2)),))
TWO = Signature(
    (TensorSpec("age", "int64", (-1,)), TensorSpec("name", "string", (-1,))),
    (TensorSpec("score", "float32", (-1, 1)), TensorSpec("box", "float32", (-1, 2, 2))),
)


def csv_rows(tmp_path: Path, text: str, signature: Signature, columns: Any = None) -> list[Any]:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    header = text.splitlines()[0].replace(";", ",").split(",")
    source = CsvLines(file, Columns(header, signature, columns))
    rows = list(source.rows(0))
    assert source.count() == len(rows)
    return [row.problem or json.loads(row.json) for row in rows]


def test_each_line_that_is_not_empty_is_one_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf[1, 2]\r\n\n  \n{"x": 3}\n[NaN]\n"end without a line break"')
    source = JsonLines(file)
    rows = [b"[1, 2]", b'{"x": 3}', b"[NaN]", b'"end without a line break"']
    assert list(source.rows(0)) == [InputRow(number, row) for number, row in enumerate(rows)]
    assert list(source.rows(3)) == [InputRow(3, rows[3])]
    assert source.count() == 4


@pytest.mark.parametrize("line", ['1],"signature_name":"other","x":[2', "[1", "nope", "[1] [2]", "[" * 5000])
def test_a_line_that_is_not_one_json_value_is_a_problem_of_that_row_only(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"[1]\n{line}\n[2]\n")
    first, second, third = JsonLines(file).rows(0)
    assert (first.json, third.json) == (b"[1]", b"[2]")
    assert "JSON" in second.problem or "nested" in second.problem


def test_columns_go_to_the_inputs_of_their_names_or_all_to_the_only_input(tmp_path: Path) -> None:
    by_name = csv_rows(tmp_path, 'other,name,age\n0,"Ann, B.",7\n0,"two\nlines",8\n', TWO)
    assert by_name == [{"age": 7, "name": "Ann, B."}, {"age": 8, "name": "two\nlines"}]
    assert csv_rows(tmp_path, "a;b\n1;2\n", VECTOR) == [{"x": [1.0, 2.0]}]
    assert csv_rows(tmp_path, "a,b,c\n1,2,3\n", VECTOR, ["c", "a"]) == [{"x": [3.0, 1.0]}]
    given = {"age": "b", "name": "a"}
    assert csv_rows(tmp_path, "a,b\nAnn,7\n", TWO, given) == [{"age": 7, "name": "Ann"}]


def test_a_bad_cell_is_a_problem_of_its_row_only(tmp_path: Path) -> None:
    rows = csv_rows(tmp_path, "age,name\n1,a\n,b\n1.5,c\n2\n3,d\n", TWO)
    assert rows[0] == {"age": 1, "name": "a"}
    assert rows[4] == {"age": 3, "name": "d"}
    for row, words in zip(rows[1:4], ("an empty cell", "'1.5'", "1 cells"), strict=True):
        assert words in row


BEYOND = ("99999999999999999999", "-9223372036854775809", "9" * 5000)
ODD = ("1_000", "\u0661", "1e3", "0x10", "1 000")
"""What Python's `int` or `float` would take for a number, or no integer."""


@pytest.mark.parametrize("cell", [*BEYOND, *ODD, "+", "1.0", "nan"])
def test_a_cell_that_is_no_integer_of_64_bits_is_a_problem_of_its_row(tmp_path: Path, cell: str) -> None:
    good, bad, last = csv_rows(tmp_path, f"age,name\n-5,a\n{cell},b\n 18446744073709551615 ,c\n", TWO)
    assert (good["age"], last["age"]) == (-5, 2**64 - 1)
    assert bad == f"Column 'age' must be int64, got {cell[:40]!r}."


@pytest.mark.parametrize("cell", ["1_000.5", "\u0661", "nan", "-inf", "Infinity", "1e999", ".", "1e", "0x1p3", "1,5"])
def test_a_cell_that_is_no_finite_number_is_a_problem_of_its_row(tmp_path: Path, cell: str) -> None:
    good, bad, last = csv_rows(tmp_path, f"a;b\n1;-2.50\n1;{cell}\n.5;+1.E-2\n", VECTOR)
    assert (good["x"], last["x"]) == ([1.0, -2.5], [0.5, 0.01])
    assert bad == f"Column 'b' must be float32, got {cell!r}."


@pytest.mark.parametrize("row", ["1," * 60, '"' + "1\n" * 60, '"1\n",' * 25 + "1\n"])
def test_a_row_of_csv_without_an_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    monkeypatch.setattr(batch_formats, "MAX_ROW", 100)
    file = tmp_path / "rows.csv"
    file.write_text(f"a,b\n1,2\n{row}")
    source = CsvLines(file, Columns(["a", "b"], VECTOR, None))
    rows = source.rows(0)
    assert json.loads(next(rows).json) == {"x": [1.0, 2.0]}
    with pytest.raises(Invalid, match=r"Line \d+ of the input.*longer than 100 characters.*closing quote"):
        next(rows)
    with pytest.raises(Invalid, match="longer than 100 characters"):
        source.count()
    file.write_text("a,b\n" + "1,2\n" * 100)  # the limit is that of one row
    assert source.count() == 100


def test_a_header_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a" * batch_formats.MAX_HEADER + "a\n")
    with pytest.raises(Invalid, match="longer than 4194304 characters"):
        check_input(file, "csv")
    monkeypatch.setattr(batch_formats, "MAX_HEADER", 2 * batch_formats.MAX_CELL)
    file.write_text("a" * batch_formats.MAX_CELL + "a\n")
    with pytest.raises(Invalid, match="Line 1 of the input can't be read as CSV: field larger"):
        check_input(file, "csv")


def test_a_closed_output_is_not_written_by_a_thread_that_still_saves(tmp_path: Path) -> None:
    output = OutputFile(tmp_path / "output.csv", 0, b"header\n")
    output.open()
    output.add(b"1\n", is_error=False)
    assert output.save() == 9
    output.add(b"2\n", is_error=False)
    output.close()
    with (tmp_path / "another").open("wb"):  # it may have the same descriptor
        assert output.save() == 9
        output.open()
        output.close()
    assert ((tmp_path / "output.csv").read_bytes(), (tmp_path / "another").read_bytes()) == (b"header\n1\n", b"")


def test_an_output_is_closed_after_the_thread_that_saves(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "output")  # a write waits until the test reads
    output = OutputFile(tmp_path / "output", 0, b"x" * 1_000_000)
    reader = os.open(tmp_path / "output", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="Invalid argument"):
        output.open()  # a pipe can't be cut off, but is open
    with ThreadPoolExecutor() as threads:
        saving = threads.submit(output.save)
        assert select.select([reader], [], [], 10)[0]
        closing = threads.submit(output.close)
        received = 0
        os.set_blocking(reader, True)
        while received < 1_000_000:
            received += len(os.read(reader, 65536))
        closing.result(10)
        assert isinstance(saving.exception(10), OSError)  # a pipe can't be written to the disk
    os.close(reader)


@pytest.mark.parametrize(
    ("header", "signature", "columns", "words"),
    [
        ("a,b,c", VECTOR, None, "2 values per row"),
        ("a,b", VECTOR, ["a", "d"], "'d' is not in the header"),
        ("a,b", TWO, None, "Give columns"),
        ("a,b", TWO, {"age": "a"}, "no columns are given for the input 'name'"),
        ("a,b", TWO, {"age": "a", "nam": "b"}, "no input 'nam' (did you mean 'name'?)"),
        ("a,b", TWO, {"age": ["a", "b"], "name": "a"}, "1 values per row"),
    ],
)
def test_columns_that_do_not_fit_the_inputs_are_refused(
    header: str, signature: Signature, columns: Any, words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        Columns(header.split(","), signature, columns)
    assert words in refused.value.message


def test_images_are_found_in_folders_in_a_fixed_order_and_links_out_of_the_folder_are_ignored(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for name in ("b.PNG", "a/z.jpg", "a/a.jpeg", ".hidden/c.jpg", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"image")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    source = Images(root)
    assert [row.file for row in source.rows(0)] == ["a/a.jpeg", "a/z.jpg", "b.PNG"]
    before = source.fingerprint()
    (root / "b.PNG").write_bytes(b"another image")
    assert Images(root).fingerprint() != before


@pytest.mark.parametrize(
    ("name", "content", "given", "found"),
    [
        ("a.jsonl", "1\n", "auto", "jsonl"), ("a.TSV", "a\tb\n", "auto", "csv"), ("a.png", "x", "auto", "images"),
        ("a.txt", "a,b\n", "csv", "csv"),
    ],
)  # fmt: skip
def test_the_format_is_found_by_the_name(tmp_path: Path, name: str, content: str, given: str, found: str) -> None:
    (tmp_path / name).write_text(content)
    assert check_input(tmp_path / name, given) == found


@pytest.mark.parametrize(
    ("name", "content", "given", "words"),
    [
        ("a.zip", "x", "auto", "Upload it"), ("a.bin", "x", "auto", "Give format"), ("a.csv", "", "auto", "is empty"),
        ("a.csv", "a,a\n", "auto", "occurs twice"),
    ],
)  # fmt: skip
def test_an_input_that_can_not_be_read_is_refused(
    tmp_path: Path, name: str, content: str, given: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(Invalid, match=words):
        check_input(tmp_path / name, given)
    with pytest.raises(Invalid, match="no image files"):
        check_input(tmp_path, "auto")
    with pytest.raises(Invalid, match="requires a file"):
        check_input(tmp_path, "csv")


def test_lines_of_the_output_as_json_and_as_csv() -> None:
    good, bad = (
        ComputedRow(InputRow(0, file="a.png"), b'{"score":0.5,"box":[[1,2],[3,4]]}'),
        ComputedRow(InputRow(1, file="b.png"), error='"no"'),
    )
    lines = JsonLinesWriter()
    assert [json.loads(lines.line(each)) for each in (good, bad)] == [
        {"index": 0, "file": "a.png", "prediction": {"score": 0.5, "box": [[1, 2], [3, 4]]}},
        {"index": 1, "file": "b.png", "error": '"no"'},
    ]
    table = CsvWriter(columns_of(TWO), has_files=True)
    assert table.header() == b"index,file,score,box,error\n"
    prediction = ComputedRow(InputRow(0, file="a.png"), b'{"score":[0.5],"box":[[1,2],[3,4]]}')
    assert table.line(prediction) == b'0,a.png,0.5,"[[1, 2], [3, 4]]",\n'
    assert table.line(bad) == b'1,b.png,,,"""no"""\n'
    vector = CsvWriter(columns_of(VECTOR), has_files=False)
    assert vector.header() + vector.line(ComputedRow(InputRow(2), b"[1.5,NaN]")) == b"index,y_0,y_1,error\n2,1.5,nan,\n"


def test_columns_set_optional_inputs_that_have_rows(tmp_path: Path) -> None:
    optional = (TensorSpec("weight", "float32", (-1,)), TensorSpec("rate", "float32", ()))
    signature = Signature(VECTOR.inputs, VECTOR.outputs, optional=optional)
    assert csv_rows(tmp_path, "a,b\n1,2\n", signature) == [{"x": [1.0, 2.0]}]
    assert csv_rows(tmp_path, "a,weight,b\n1,3,2\n", signature) == [{"x": [1.0, 2.0], "weight": 3.0}]
    given = {"x": ["a", "b"], "weight": "c"}
    assert csv_rows(tmp_path, "a,b,c\n1,2,3\n", signature, given) == [{"x": [1.0, 2.0], "weight": 3.0}]
    with pytest.raises(Invalid, match=r"the model has no input 'rate'.*It has: x, weight"):
        csv_rows(tmp_path, "a,b,c\n1,2,3\n", signature, {"x": ["a", "b"], "rate": "c"})
    nothing = Signature((), VECTOR.outputs, optional=optional)
    assert csv_rows(tmp_path, "weight\n3\n", nothing) == [{"weight": 3.0}]
    with pytest.raises(Invalid, match="Give columns"):
        csv_rows(tmp_path, "a\n3\n", nothing)
