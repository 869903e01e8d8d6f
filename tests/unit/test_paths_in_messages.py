"""What callers that may only predict are not shown: where the server keeps its files."""

from __future__ import annotations

import pytest

from tfserve.paths import without_folders


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/models/a.onnx can't be loaded: bad", "a.onnx can't be loaded: bad"),
        ("No such file: '/var/lib/tfserve/data/x/1/saved_model.pb'.", "No such file: 'saved_model.pb'."),
        ("see /usr/lib/python3/site-packages/keras/a.py:12 (in /tmp/x)", "see a.py:12 (in x)"),
        ("POST /deploy/ deploys one, GET /v1/models lists them; /cpu:0", None),
        ("[while loading /tmp/m/variables/.]", "[while loading variables.]"),
        ("https://example.org/usr/a.html", None),
    ],
)
def test_only_the_names_of_files_are_shown(text: str, shown: str | None) -> None:
    assert without_folders(text) == (shown or text)


def test_a_known_path_may_have_spaces() -> None:
    text = "/home/My Models/a b.onnx is damaged, and so is /home/My Models/c.bin"
    assert without_folders(text, "/home/My Models/a b.onnx") == "a b.onnx is damaged, and so is c.bin"
