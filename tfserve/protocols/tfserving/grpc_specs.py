"""Which model, version and signature a ModelSpec means, and the spec of the answer."""

from __future__ import annotations

import unicodedata

from tfserve.errors import Invalid
from tfserve.protocols.protos import tfserving_pb2 as v1
from tfserve.serving.models import Model, Models
from tfserve.tensors import Signature

PROTOCOL = "v1-grpc"
#: How the name of a signature's method begins in TensorFlow.
METHODS = "tensorflow/serving/"


def version_of(spec: v1.ModelSpec) -> int | None:
    """None for the version that serves. Raises `Invalid` for a label: versions have none here."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise Invalid(
            f"Unrecognized servable version label: {spec.version_label[:80]!r}. Versions have no labels here; give"
            " version, or nothing for the one that serves."
        )
    return spec.version.value if spec.HasField("version") else None


def model_of(models: Models, spec: v1.ModelSpec) -> Model:
    """Raises `Invalid`, `NoSuchModel`, `NoSuchVersion`."""
    if not spec.name:
        raise Invalid("The request names no model. Give model_spec.name, the name of a workspace that has one.")
    name = spec.name if spec.name.isascii() else unicodedata.normalize("NFC", spec.name)
    return models.get(name, version_of(spec))


def signature_of(model: Model, spec: v1.ModelSpec) -> tuple[str, Signature]:
    """The signature that is named, or the model's own when none is. Raises `Invalid`."""
    name = spec.signature_name or model.default_signature()
    return name, model.signature(name)


def answering_spec(asked: v1.ModelSpec, version: int, signature: str = "") -> v1.ModelSpec:
    spec = v1.ModelSpec(name=asked.name, signature_name=signature)
    spec.version.value = version
    return spec
