"""Model, version and signature of a ModelSpec, and the ModelSpec of a response."""

from __future__ import annotations

import unicodedata

from tfserve.errors import Invalid
from tfserve.tensors.specs import Signature
from tfserve.web.api.protos import tfserving_pb2 as v1
from tfserve.web.predictions.live_models import Model, Models

PROTOCOL = "v1-grpc"
#: TensorFlow's prefix of method names.
METHODS = "tensorflow/serving/"


def version_of(spec: v1.ModelSpec) -> int | None:
    """None for the version that serves requests. Raises `Invalid` for labels, which are not supported."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise Invalid(
            f"Unrecognized servable version label: {spec.version_label[:80]!r}. Version labels are not supported."
            " Set version, or omit it for the version that serves requests."
        )
    return spec.version.value if spec.HasField("version") else None


def model_of(models: Models, spec: v1.ModelSpec) -> Model:
    """Raises `Invalid`, `NoSuchModel`, `NoSuchVersion`."""
    if not spec.name:
        raise Invalid(
            "The request names no model. Set model_spec.name to the name of a workspace with a deployed model."
        )
    name = spec.name if spec.name.isascii() else unicodedata.normalize("NFC", spec.name)
    return models.get(name, version_of(spec))


def signature_of(model: Model, spec: v1.ModelSpec) -> tuple[str, Signature]:
    """The named signature, or the model's default one. Raises `Invalid`."""
    name = spec.signature_name or model.default_signature()
    return name, model.signature(name)


def answering_spec(asked: v1.ModelSpec, version: int, signature: str = "") -> v1.ModelSpec:
    spec = v1.ModelSpec(name=asked.name, signature_name=signature)
    spec.version.value = version
    return spec
