"""Errors of libraries are shortened to what explains them."""

from __future__ import annotations

import pytest

from tfserve.runtimes.error_summary import cause, named_cause

KERAS_3 = (
    "Exception encountered when calling Dense.call().\n\n\x1b[1mMatrix size-incompatible: [1,3] by [2,4]\x1b[0m\n\n"
    "Arguments received by Dense.call():\n  • inputs=tf.Tensor(shape=(1, 3))"
)
KERAS_2 = (
    'Exception encountered when calling layer "inner" (type Sequential).\n\n'
    'Exception encountered when calling layer "dense" (type Dense).\n\n'
    'Dimensions must be equal\n\nCall arguments received by layer "dense" (type Dense):\n  • inputs=x'
)
CONFIGURATION = (
    "Error when deserializing class 'Conv1D' using config={'name': 'c', 'initializer': {'class_name': 'Zeros'}}.\n\n"
    "Exception encountered: Unknown activation function: 'mish2'. Please register it."
)
CONFIGURATION_OF_MODEL = (
    "<class 'keras.src.models.functional.Functional'> could not be deserialized properly. Please ensure that components"
    f" are deserialized.\n\nconfig={{'module': 'keras'}}.\n\nException encountered: {CONFIGURATION}"
)
UNKNOWN_ACTIVATION = "Error when deserializing class 'Conv1D': Unknown activation function: 'mish2'. Please register it"
OPENVINO = (
    "Exception from src/inference/src/cpp/core.cpp:90:\nException from src/frontends/common/src/frontend.cpp:54:\n"
    "Check 'false' failed at src/frontends/onnx/frontend.cpp:1:\nFrontEnd API failed with GeneralFailure:\n"
    "Errors during ONNX import\n\nSummary:\n-- No conversion rule found for operations: X"
)
ONNX_RUNTIME = (
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x for the following indices\n"
    " index: 1 Got: 3 Expected: 2\n Please fix either the inputs/outputs or the model."
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (KERAS_3, "Exception encountered when calling Dense.call(): Matrix size-incompatible: [1,3] by [2,4]"),
        (KERAS_2, 'Exception encountered when calling layer "dense" (type Dense): Dimensions must be equal'),
        (CONFIGURATION, UNKNOWN_ACTIVATION),
        (CONFIGURATION_OF_MODEL, UNKNOWN_ACTIVATION),
        ("Graph execution error:\n\nx is negative\n\t [[{{node a}}]] [Op:b]", "x is negative"),
        ("Graph execution error:\n\nDetected at node x defined at (most recent call last):\n"
         '  File "f.py", line 4, in <module>\n\nUnknown image file format.\n\t [[{{node x}}]]',
         "Unknown image file format"),
        ('in user code:\n\n    File "f.py", line 1, in g  *\n        return 1\n\n    ValueError: too large',
         "ValueError: too large"),
        ("{{function_node __wrapped__X}} Input is empty. [Op:X]", "Input is empty. [Op:X]"),
        (OPENVINO, "Errors during ONNX import"),
        (ONNX_RUNTIME, "Got invalid dimensions for input: x for the following indices index: 1 Got: 3 Expected: 2"
         " Please fix either the inputs/outputs or the model"),
        ("[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/a.cc:9 f(int) Bad model.", "Bad model"),
        ("cannot identify image file <_io.BytesIO object at 0x7f00>", "cannot identify image file"),
        ("one\ntwo\n[[{{node a}}]]\nthree", "one two"),
        ("one\n\nanother matter", "one"),
        ("Graph execution error:", "Graph execution error"),
        ("", "ValueError"),
    ],
)  # fmt: skip
def test_the_cause_is_found(message: str, words: str) -> None:
    assert cause(ValueError(message)) == words


def test_an_unexpected_error_is_named_and_a_long_cause_is_cut_off() -> None:
    assert named_cause(KeyError("x" * 900), 20) == "KeyError: '" + "x" * 19
