"""tritonclient, one request per file of arrays. Arguments: http|json|grpc, address, model, then pairs of files.

The first of a pair has the inputs, the second gets the outputs.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import triton_to_np_dtype

protocol, address, model, *files = sys.argv[1:]
triton: Any = over_grpc if protocol == "grpc" else over_http
client = triton.InferenceServerClient(address)
metadata = client.get_model_metadata(model)
if protocol == "grpc":
    datatypes = {each.name: each.datatype for each in metadata.inputs}
    outputs = [each.name for each in metadata.outputs]
else:
    datatypes = {each["name"]: each["datatype"] for each in metadata["inputs"]}
    outputs = [each["name"] for each in metadata["outputs"]]
binary = {} if protocol == "grpc" else {"binary_data": protocol == "http"}


def load(file: str) -> dict[str, Any]:
    with np.load(file) as arrays:
        return {name: arrays[f"a{n}"] for n, name in enumerate(json.loads(str(arrays["names"])))}


def plain(array: Any) -> Any:
    """Text as numpy keeps it in files."""
    if array.dtype != object:
        return array
    texts = [each.decode() if isinstance(each, bytes) else each for each in array.flat]
    return np.array(texts, str).reshape(array.shape)


for given, got in zip(files[::2], files[1::2], strict=True):
    inputs = []
    for name, array in load(given).items():
        each = triton.InferInput(name, list(array.shape), datatypes[name])
        if array.dtype.kind == "U":
            array = np.array([text.encode() for text in array.flat], object).reshape(array.shape)
        each.set_data_from_numpy(array.astype(triton_to_np_dtype(datatypes[name])), **binary)
        inputs.append(each)
    wanted = [triton.InferRequestedOutput(name, **binary) for name in outputs]
    answer = client.infer(model, inputs, outputs=wanted)
    found = {name: plain(answer.as_numpy(name)) for name in outputs}
    np.savez(got, names=np.array(json.dumps(list(found))), **{f"a{n}": found[name] for n, name in enumerate(found)})
