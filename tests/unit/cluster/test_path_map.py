"""Paths of the head and of a node."""

from __future__ import annotations

import pytest

from tfserve.errors import Invalid
from tfserve.supervisor.cluster.path_map import PathMap


def test_two_models_of_one_folder_are_found_where_each_of_them_is() -> None:
    """A meta graph and, for an update, the checkpoint with its new weights."""
    path_map = PathMap()
    path_map.add("/m", "/node/1", ("one.meta", "one.index", "one.data-00000-of-00001"))
    path_map.add("/m", "/node/2", ("two.index", "two.data-00000-of-00001"))
    path_map.add("/m", "/node/3", ("one2.index", "nested/part.bin"))
    assert path_map.to_node("/m/one.meta") == "/node/1/one.meta"
    assert path_map.to_node("/m/one") == "/node/1/one"
    assert path_map.to_node("/m/two") == "/node/2/two"
    assert path_map.to_node("/m/one2") == "/node/3/one2"
    assert path_map.to_node("/m/nested/part.bin") == "/node/3/nested/part.bin"
    assert path_map.to_node("/elsewhere/one") == "/elsewhere/one"
    error = path_map.in_error(Invalid("/node/1/one.meta and /node/2/two.index do not fit"))
    assert error.message == "/m/one.meta and /m/two.index do not fit"


def test_a_file_that_is_provided_again_is_only_where_it_was_provided_last() -> None:
    path_map = PathMap()
    path_map.add("/m", "/node/1", ("a.py", "b.py"))
    path_map.add("/m", "/node/2", ("b.py", "c.py"))
    assert path_map.folders_on_node == ["/node/2"]
    path_map.add("/m", "/node/3")
    assert path_map.to_node("/m/b.py") == "/node/3/b.py"
    assert path_map.folders_on_node == ["/node/3"]


@pytest.mark.parametrize("path", ["/m/prefix/", "/m/prefix/.index"])
def test_a_prefix_that_is_only_a_folder(path: str) -> None:
    path_map = PathMap()
    path_map.add("/m/prefix", "/node/1", (".index", ".data-00000-of-00001"))
    assert path_map.to_node(path).startswith("/node/1/")


def test_the_longest_folder_counts() -> None:
    path_map = PathMap()
    path_map.add("/m", "/node/1")
    path_map.add("/m/deep", "/node/2")
    assert path_map.to_node("/m/deep/x") == "/node/2/x"
    assert path_map.to_node("/m/deeper/x") == "/node/1/deeper/x"
