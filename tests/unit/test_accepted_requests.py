"""What was accepted before the database went away is not sent again by clients that retry."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tfserve_client import Retries


@pytest.mark.usefixtures("django_settings")
def test_only_what_was_not_accepted_may_be_sent_again() -> None:
    from django.db import OperationalError

    from tfserve.errors import DatabaseUnavailable
    from tfserve.web.database_reads import AcceptedUnread, read, read_accepted
    from tfserve.web.http.responses import error_headers, status_of

    def fails(_: str) -> None:
        raise OperationalError("disk I/O error")

    with pytest.raises(DatabaseUnavailable) as refused:
        asyncio.run(read(fails, "t"))
    with pytest.raises(AcceptedUnread) as accepted:
        asyncio.run(read_accepted("The training", "/tasks/t", fails, "t"))
    responses = []
    for error in (refused.value, accepted.value):
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        responses.append(httpx.Response(status_of(error), headers=headers))
    assert [each.status_code for each in responses] == [503, 500]
    assert [Retries().after_response(each, 0) is not None for each in responses] == [True, False]
    message = accepted.value.message
    assert "The training was accepted, but the database can't be read (disk I/O error)" in message
    assert "Do not send the request again. GET /tasks/t shows the result" in message


@pytest.mark.usefixtures("django_settings")
def test_what_can_be_read_is_returned() -> None:
    from tfserve.web.database_reads import read_accepted

    assert asyncio.run(read_accepted("The job", "/jobs/1", lambda number: number + 1, 1)) == 2
