"""The models as a node knows them: what the head announced last, also while the head is away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tfserve.ipc.messages import ModelVersion

Versions = Sequence[ModelVersion]


class AnnouncedModels:
    """The versions by model.

    A head that starts again announces its models as loading before it has found their processes on the nodes. Those
    serve meanwhile, so the last known state counts until the head knows more.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[ModelVersion]] = {}
        #: models whose last known state is kept, because the head does not know theirs yet
        self._kept: set[str] = set()

    @property
    def models(self) -> dict[str, list[ModelVersion]]:
        return dict(self._known)

    @property
    def deployments(self) -> set[int]:
        return {version.id for versions in self._known.values() for version in versions}

    def begin(self, announced: Mapping[str, Versions]) -> Iterator[tuple[str, list[ModelVersion]]]:
        """Takes over what a head announces that has just been connected. Yields the models that have changed."""
        for name in [*announced, *(self._known.keys() - announced.keys())]:
            versions = announced.get(name, ())
            if is_unknown(versions) and can_serve(self._known.get(name, ())):
                self._kept.add(name)
            elif list(versions) != self._known.get(name, []):
                yield name, self._set(name, versions)

    def change(self, name: str, versions: Versions) -> list[ModelVersion] | None:
        """Takes over one change. Returns what is to be passed on; None if nothing is."""
        if name in self._kept and is_unknown(versions):
            return None
        return self._set(name, versions)

    def _set(self, name: str, versions: Versions) -> list[ModelVersion]:
        self._kept.discard(name)
        if versions:
            self._known[name] = list(versions)
        else:
            self._known.pop(name, None)
        return list(versions)


def is_unknown(versions: Versions) -> bool:
    """Whether the head is only about to find or start the processes of a model."""
    return bool(versions) and all(each.state == "loading" and not each.addresses for each in versions)


def can_serve(versions: Versions) -> bool:
    return any(each.state == "active" and each.addresses for each in versions)
