"""The Prefer header of RFC 7240."""

from __future__ import annotations

import pytest

from tfserve.web.http.prefer import Deferral, read_deferral

LATER = Deferral(0.0, b"respond-async")


@pytest.mark.parametrize(
    ("values", "deferral"),
    [
        ([], None),
        (["wait=5"], None),
        (["return=minimal"], None),
        (["respond-asynchronously"], None),
        (["respond-async"], LATER),
        (["Respond-Async"], LATER),
        (["return=minimal, respond-async; foo=bar"], LATER),
        (["respond-async, wait=5"], Deferral(5.0, b"respond-async, wait=5")),
        (["wait = 5", "respond-async"], Deferral(5.0, b"respond-async, wait=5")),
        (['respond-async, wait="7"'], Deferral(7.0, b"respond-async, wait=7")),
        (["respond-async, wait=100000"], Deferral(60.0, b"respond-async, wait=60")),
        (["respond-async, wait=-1"], LATER),
        (["respond-async, wait=soon"], LATER),
        (["respond-async, wait=" + "9" * 5000], LATER),
        (["\xff, respond-async"], LATER),
    ],
)
def test_a_prediction_is_deferred_only_if_the_client_prefers_it(values: list[str], deferral: Deferral | None) -> None:
    headers = [(b"host", b"localhost"), *((b"prefer", value.encode("latin-1")) for value in values)]
    assert read_deferral(headers) == deferral
