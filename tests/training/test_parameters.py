"""The tables of parameters, and what is made from them."""

from __future__ import annotations

from typing import Any

import pytest

from tfserve.errors import Invalid
from tfserve.training import parameters


@pytest.mark.parametrize("kind", parameters.TABLES)
def test_every_default_is_a_value_that_can_be_taken(kind: str) -> None:
    for each in parameters.TABLES[kind]:
        assert each.problem(each.default) is None
        assert each.help
    names = [each.name for each in parameters.TABLES[kind]]
    assert len(names) == len(set(names))


def test_what_is_not_given_has_its_default() -> None:
    chosen = parameters.complete("classification", {"epochs": 3})
    assert (chosen["epochs"], chosen["validation_split"], chosen["mirror"]) == (3, 0.2, False)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", 0, "from 1 to 10000"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("epochs", None, "a whole number"),
        ("epochs", "many", "'auto'"),
        ("validation_split", 0.99, "out of range"),
        ("validation_split", float("nan"), "out of range"),
        ("mirror", 1, "true or false"),
        ("backbone", "VGG", "'compact'"),
        ("weights", "", "a path"),
        ("image_size", 8, "from 16 to 1024"),
        ("budget", "soon", "a time such as 60s or 10m"),
        ("effort", "most", "'balanced'"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(name: str, value: Any, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parameters.complete("classification", {name: value})
    assert refused.value.message.startswith(f"{name}: ")
    assert words in refused.value.message


def test_all_problems_are_told_at_once_with_the_nearest_name_and_what_there_is() -> None:
    with pytest.raises(Invalid) as refused:
        parameters.complete("segmentation", {"epoch": 3, "dice_weight": 2, "backbone": "compact"})
    assert len(refused.value.detail["parameters"]) == 3
    assert "did you mean 'epochs'" in refused.value.message
    assert "A segmentation has: seed, " in refused.value.message


def test_train_types_are_known_in_any_case() -> None:
    assert parameters.train_type(" Classification") == "classification"
    with pytest.raises(Invalid, match=r"did you mean 'segmentation'"):
        parameters.train_type("segmentatoin")
    with pytest.raises(Invalid, match="classification or segmentation or detection"):
        parameters.train_type("regression")


def test_the_listing_has_all_that_a_form_needs() -> None:
    (seed,) = [each for each in parameters.listing()["classification"] if each["name"] == "seed"]
    assert {"type", "default", "minimum", "maximum", "help"} <= seed.keys()
