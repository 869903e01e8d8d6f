"""Measures the processor time of one request, in each process of the server: a busy machine disturbs it least.

python -m benchmarks.cpu_per_request                                       small-json, TensorFlow, 32 connections
python -m benchmarks.cpu_per_request --against ../main                     another checkout in the same run, in turns
python -m benchmarks.cpu_per_request --row mobilenet-jpeg --runtime auto --connections 1
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.table import Table

from benchmarks import wrk
from benchmarks.load_point import Point, measure
from benchmarks.participants import Running
from benchmarks.predictions import models
from benchmarks.requests import ROWS, Request, Samples, model_of
from benchmarks.server_process import REPOSITORY
from benchmarks.tables import wide_console
from benchmarks.tfserve_participant import TFserve, Variant

console = wide_console()


def main() -> None:
    options = parse()
    if (reason := wrk.missing()) is not None:
        sys.exit(reason)
    checkouts = [REPOSITORY, *options.against]
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder, model = Path(name), model_of(options.row)
        participants = [TFserve(Variant(options.runtime, path.name), checkout=path) for path in checkouts]
        request = participants[0].ask(options.row, Samples(models()))
        assert isinstance(request, Request), request
        servers = [stack.enter_context(each.serve(model, models() / model, folder)) for each in participants]
        points = list(in_turns(servers, request, folder, options))
    for number, path in enumerate(checkouts):
        show(str(path), [each for index, each in points if index == number])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=list(ROWS), default="small-json")
    parser.add_argument("--runtime", default="tensorflow")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4, help="how long each measurement takes (4)")
    parser.add_argument("--times", type=int, default=5, help="measurements of each checkout (5)")
    parser.add_argument("--against", type=Path, nargs="*", default=[], help="further checkouts, measured in turns")
    options = parser.parse_args()
    options.against = [path.resolve() for path in options.against]
    return options


def in_turns(
    servers: list[Running], request: Request, folder: Path, options: argparse.Namespace
) -> Iterator[tuple[int, Point]]:
    """A B C A B C …, so that a change of the machine meets all of them."""
    for _ in range(options.times):
        for number, running in enumerate(servers):
            yield (
                number,
                measure(running, request, folder, connections=options.connections, seconds=options.seconds),
            )


def show(title: str, points: list[Point]) -> None:
    roles = sorted({role for point in points for role in point.cpu_us})
    table = Table("", "requests/s", *roles, "all", "wrk", "failed", title=f"{title}: µs of a core for each request")
    for point in points:
        table.add_row("", *cells(point, roles))
    rates = [point.rate for point in points]
    medians = [statistics.median(point.cpu_us.get(role, 0.0) for point in points) for role in roles]
    everything = statistics.median(point.server_us for point in points)
    client = statistics.median(point.client_us for point in points)
    numbers = [statistics.median(rates), *medians, everything, client]
    table.add_section()
    table.add_row("median", *(f"{value:.1f}" for value in numbers), str(sum(point.failed for point in points)))
    console.print(table, highlight=False)


def cells(point: Point, roles: list[str]) -> list[str]:
    numbers = [point.rate, *(point.cpu_us.get(role, 0.0) for role in roles), point.server_us, point.client_us]
    return [*(f"{value:.1f}" for value in numbers), str(point.failed)]


if __name__ == "__main__":
    main()
