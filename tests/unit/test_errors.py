"""The error tree: documented completely, and fit to be sent as data."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from tfserve import errors
from tfserve.errors import Failure, Invalid, Kind, NotFound, TFserveError, from_failure

CLASSES = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, TFserveError)]


def test_the_tree_at_the_top_of_the_module_is_the_class_tree() -> None:
    parents: dict[str, str] = {}
    path: list[str] = []
    for indent, name in re.findall(r"^    ([│ ]*)[├└]─ (\w+)", errors.__doc__ or "", re.MULTILINE):
        path = [*path[: len(indent) // 3], name]
        parents[name] = path[-2] if len(path) > 1 else TFserveError.__name__
    assert parents == {each.__name__: each.__bases__[0].__name__ for each in CLASSES if each is not TFserveError}


def test_each_kind_has_one_class() -> None:
    assert sorted(each.kind for each in TFserveError.__subclasses__() if each.__module__ == errors.__name__) == sorted(
        Kind
    )


@pytest.mark.parametrize("error", [Invalid("x", field="a"), NotFound("gone"), TFserveError("broken")], ids=str)
def test_an_error_is_the_same_after_being_sent(error: TFserveError) -> None:
    received = from_failure(msgspec.json.decode(msgspec.json.encode(error.to_failure()), type=Failure))
    assert (received.kind, received.message, received.detail) == (error.kind, error.message, error.detail)


def test_a_message_with_a_file_name_that_is_not_utf8_can_be_sent() -> None:
    assert (
        msgspec.json.encode(Invalid("no file 'a\udcff'").to_failure())
        == b'{"code":"invalid","message":"no file \'a?\'"}'
    )
