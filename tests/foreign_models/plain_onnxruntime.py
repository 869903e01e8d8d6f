"""What ONNX Runtime alone makes of one of ONNX's cases: right, wrong, or refused with the reason. Argument: its folder.

A program of its own, since a case may crash it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime

from tests.foreign_models import onnx_cases


def judge(folder: Path) -> str:
    case = onnx_cases.read(folder)
    if not case.is_of_tensors:
        return "refused: a value is a sequence or optional"
    try:
        session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, case.inputs), strict=True))
    except Exception as error:
        return f"refused: {type(error).__name__}: {error}"[:300].replace("\n", " ")
    return "right" if all(onnx_cases.agree(case.outputs[name], outputs[name]) for name in names) else "wrong"


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(4)
    print(judge(Path(sys.argv[1])))
