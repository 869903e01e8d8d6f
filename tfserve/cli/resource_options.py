"""Options for what processes need, and for autoscaling: `--resource gpu=1`, `--autoscale 1:4`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tfserve import written_numbers

F = TypeVar("F", bound=Callable[..., Any])

NAMES = ("cpu", "gpu", "memory", "node")
OFF = "off"
_LIMITS = re.compile(r"(\d+):(\d+)(?::(\d+(?:\.\d+)?))?")


def _resources(_: click.Context, __: click.Parameter, given: Sequence[str]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not value or name not in NAMES:
            raise click.BadParameter(f"expected cpu=N, gpu=N, memory=SIZE or node=NAME, got {each!r}")
        found[name] = _number(name, value) if name in ("cpu", "gpu") else value
    return found or None


def _number(name: str, value: str) -> float:
    if (number := written_numbers.finite(value)) is None:
        raise click.BadParameter(f"expected a number for {name}, got {value!r}")
    return number


RESOURCES = click.option(
    "--resource", "resources", multiple=True, metavar="NAME=VALUE", callback=_resources,
    help="What each process needs: cpu=N, gpu=N, memory=SIZE or node=NAME. May be repeated.",
)  # fmt: skip


def autoscale_option(*, can_turn_off: bool = False) -> Callable[[F], F]:
    """`--autoscale MIN:MAX[:QUEUE]`, or `off`."""

    def parsed(_: click.Context, __: click.Parameter, given: str | None) -> dict[str, Any] | bool | None:
        if given is None or (can_turn_off and given == OFF):
            return None if given is None else False
        match = _LIMITS.fullmatch(given)
        if match is None:
            form = "MIN:MAX or MIN:MAX:QUEUE, such as 1:4 or 1:4:8" + (f", or {OFF}" if can_turn_off else "")
            raise click.BadParameter(f"expected {form}, got {given!r}")
        limits = {"min": int(match[1]), "max": int(match[2])}
        return limits | ({"target_queue": float(match[3])} if match[3] else {})

    return click.option(
        "--autoscale", metavar="MIN:MAX[:QUEUE]", callback=parsed,
        help="Start and end processes by the load: one for QUEUE predictions in flight."
        + (f" {OFF}: keep a fixed number." if can_turn_off else ""),
    )  # fmt: skip
