"""The model of requests that share a head. It is found again when models or the sender have changed, not each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tfserve.access.principals import PREDICT, PRINCIPAL, Principal
from tfserve.config import Settings
from tfserve.web.http import access_log
from tfserve.web.http.bodies import check_size, limit_of
from tfserve.web.predictions.live_models import LiveModels, Model


class KnownModel:
    """`find` looks for the model, for the current principal. It may raise any `TFserveError`."""

    def __init__(self, models: LiveModels, settings: Settings, find: Callable[[], Model]) -> None:
        self._models = models
        self._settings = settings
        self._find = find
        self._model: Model | None = None
        self._limit = 0
        #: for what `_model` was found: the sender, and `LiveModels.changed` at that time
        self._principal: Principal | None = None
        self._state: asyncio.Event | None = None

    def take(self, body: bytes) -> Model:
        """The model for a request with this body. Raises the errors of `find`, `ScopeRequired`, `BodyTooLarge`."""
        principal, model = PRINCIPAL.get(), self._model
        if model is None or principal is not self._principal or self._models.changed is not self._state:
            model = self._found(principal)
        check_size(body, self._limit)
        access_log.note_model(model.name, model.version)
        return model

    def _found(self, principal: Principal) -> Model:
        principal.require(PREDICT)
        model = self._model = self._find()
        self._limit = limit_of(self._settings, model.max_body_bytes)
        self._principal, self._state = principal, self._models.changed
        return model
