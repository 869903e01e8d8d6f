"""What an update, or `/scale/`, changes of the options of a deployed model."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from tfserve.ipc.messages import Autoscale, ModelOptions, UpdateJob, switched


def changed(options: ModelOptions, update: UpdateJob) -> ModelOptions:
    """The options of the new version. Raises `Invalid`."""
    given: dict[str, Any] = {
        "idle_after_s": update.idle_after_s,
        "placement": update.placement,
        "resources": update.resources,
        "warm_up": msgspec.UNSET if update.warm_up is None else update.warm_up,
    }
    options = replace(options, **{name: value for name, value in given.items() if value is not msgspec.UNSET})
    return replace(
        with_replicas(options, update.replicas or None, update.autoscale),
        placement=msgspec.UNSET if options.placement == "spread" else options.placement,
        resources=options.resources or msgspec.UNSET,
    )


def with_replicas(
    options: ModelOptions, replicas: int | None, autoscale: Autoscale | bool | msgspec.UnsetType = msgspec.UNSET
) -> ModelOptions:
    """With another number of replicas, or limits for it. Raises `Invalid` for a number outside of the limits."""
    if autoscale is not msgspec.UNSET:
        options = replace(options, autoscale=switched(autoscale) or msgspec.UNSET)
    limits = options.autoscale or None
    if limits is None:
        return replace(options, replicas=replicas or options.replicas)
    return replace(options, replicas=limits.within(replicas or options.replicas))
