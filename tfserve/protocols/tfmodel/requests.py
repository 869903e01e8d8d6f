"""What a training task is asked for with, as a form or as JSON."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from tfserve.errors import Invalid

MAX_FIELDS = 50


class NewTask(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields of `POST /` as a form, and of `POST /tasks/` as JSON, where a misspelt one is refused."""

    userId: Annotated[str, Meta(description="whose project it is", min_length=1)]  # noqa: N815 (the contract's names)
    projectId: Annotated[str, Meta(description="which project it is", min_length=1)]  # noqa: N815
    projectDir: Annotated[str, Meta(description="the project's folder on the server", min_length=1)]  # noqa: N815
    trainType: Annotated[str, Meta(description="classification, segmentation or detection, in any case")]  # noqa: N815
    parameters: Annotated[dict[str, Any], Meta(description="see GET /training/parameters/")] = {}
    deploy_to: Annotated[str | None, Meta(description="a workspace in which the result is deployed")] = None


FORM_FIELDS = ("userId", "projectId", "projectDir", "trainType")


def from_form(body: bytes) -> NewTask:
    """Raises `Invalid` that names what is missing."""
    try:
        fields: dict[str, Any] = dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        )
    except ValueError as error:
        raise Invalid(f"The form can't be read: {error}.") from None
    missing = [name for name in FORM_FIELDS if not fields.get(name)]
    if missing:
        raise Invalid(f"The form needs the fields {', '.join(FORM_FIELDS)}; {', '.join(missing)} is missing or empty.")
    return NewTask(**{name: fields[name] for name in FORM_FIELDS}, deploy_to=fields.get("deploy_to") or None)
