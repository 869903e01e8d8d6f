"""A standby waits for the data folder of another server, and takes over when that one ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.standby import Standby, takes_over

Start = Callable[..., Server]


@pytest.fixture
def standbys() -> Iterator[list[Standby]]:
    made: list[Standby] = []
    yield made
    for each in made:
        each.close()


@pytest.mark.slow
def test_a_standby_takes_over_the_data_folder(start: Start, standbys: list[Standby]) -> None:
    server = start()
    standbys.append(Standby(server.data_dir))
    takes_over(server, standbys[0])


def test_a_waiting_standby_ends_on_a_signal(start: Start, standbys: list[Standby]) -> None:
    server = start()
    standby = Standby(server.data_dir)
    standbys.append(standby)
    assert standby.waits.wait(30)
    standby.process.terminate()
    assert standby.process.wait(10) != 0
    assert server.http.get("/v2/health/live").status_code == 200
