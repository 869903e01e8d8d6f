"""What the bridge of a model worker remembers, so that the next head can take over the model without loading it."""

from __future__ import annotations

from tfserve.ipc import frames
from tfserve.ipc.messages import BecomeModel, ModelLoaded, ServingModel


class ServingRecord:
    """`model` is set when the worker has loaded a model. Only the frames until then are read."""

    def __init__(self) -> None:
        self.model: ServingModel | None = None
        self._request: tuple[int, BecomeModel] | None = None
        self._has_role = False

    def note_request(self, frame: bytes) -> None:
        """A frame from the head."""
        if self._has_role:
            return
        self._has_role = True  # the first request gives a worker its role
        request_id, message = frames.read(frame)
        if isinstance(message, BecomeModel) and message.deployment:
            self._request = request_id, message

    def note_response(self, frame: bytes) -> None:
        """A frame from the worker."""
        if self._request is None or self.model is not None:
            return
        request_id, become = self._request
        if frames.HEADER.unpack_from(frame)[1] != request_id | frames.RESPONSE:
            return
        self._request = None
        _, loaded = frames.read(frame)
        if isinstance(loaded, ModelLoaded):
            become.samples, become.sample = [], None  # they may be large
            self.model = ServingModel(
                deployment=become.deployment, become=frames.pack(become), loaded=frames.pack(loaded)
            )
