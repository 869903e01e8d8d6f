"""Errors of libraries are shortened to what explains them."""

from __future__ import annotations

import pytest

from tfserve.runtimes.causes import cause

KERAS_3 = (
    "Exception encountered when calling Dense.call().\n\n\x1b[1mMatrix size-incompatible: [1,3] by [2,4]\x1b[0m\n\n"
    "Arguments received by Dense.call():\n  • inputs=tf.Tensor(shape=(1, 3))"
)
KERAS_2 = (
    'Exception encountered when calling layer "inner" (type Sequential).\n\n'
    'Exception encountered when calling layer "dense" (type Dense).\n\n'
    'Dimensions must be equal\n\nCall arguments received by layer "dense" (type Dense):\n  • inputs=x'
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (KERAS_3, "Exception encountered when calling Dense.call(): Matrix size-incompatible: [1,3] by [2,4]."),
        (KERAS_2, 'Exception encountered when calling layer "dense" (type Dense): Dimensions must be equal.'),
        ("Graph execution error:\n\nx is negative\n\t [[{{node a}}]] [Op:b]", "x is negative."),
        ("one\ntwo\n[[{{node a}}]]\nthree", "one two."),
        ("one\n\nanother matter", "one."),
        ("", "ValueError."),
    ],
)
def test_the_cause_is_found(message: str, words: str) -> None:
    assert cause(ValueError(message)) == words
