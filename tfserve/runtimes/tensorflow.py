"""Runs TensorFlow models: meta graphs, SavedModels and exported Keras models. The only module that imports TensorFlow.

All of them become one graph with one session, since a session reaches every tensor by its name and is as fast as
calling a signature. After loading, the files are not read again.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tfserve.errors import Internal, Invalid, Overloaded, TFserveError
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import (
    Measuring,
    call_latency,
    concurrent,
    devices,
    frozen_graph,
    graph_callables,
    keras,
    known_names,
    operation_check,
    saved_model_exports,
    saved_model_file,
    saved_model_loader,
    session_copy,
    signature_defaults,
    state,
    uninitialized,
)
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.graph_callables import GraphCallable
from tfserve.runtimes.graph_guard import GraphGuard
from tfserve.runtimes.graph_names import GraphNames
from tfserve.runtimes.interface import ResolvedName
from tfserve.runtimes.known_names import KnownNames
from tfserve.runtimes.restore_plan import Resource, RestorePlan
from tfserve.runtimes.row_walk import of_tensorflow
from tfserve.runtimes.saved_model_file import Tensors
from tfserve.runtimes.saved_model_loader import SavedModel
from tfserve.runtimes.session_state import SessionState
from tfserve.runtimes.side_effects import Operations
from tfserve.runtimes.uninitialized import Completed
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array

log = logging.getLogger(__name__)

MAX_CALLABLES = 256
MAX_ROW_WALKS = 256
_CPU = "/cpu:0"
"""Elsewhere TensorFlow places each variable where the operations are that use it, and a plan would not know where."""

_UNKNOWN_OPERATION = re.compile(r"Op type not registered '([^']+)'")


def warm_up() -> None:
    """Imports TensorFlow, which takes seconds, without starting it."""
    import tensorflow

    keras.warm_up()
    tensorflow.get_logger()


def load(
    model: Located, *, device: str, measuring: Measuring | None = contextlib.nullcontext, allow_unsafe: bool = False,
    device_memory_bytes: int = 0,
) -> GraphModel:  # fmt: skip
    """Loads a model onto a device. Raises `Invalid` with the cause when that is not possible.

    With `allow_unsafe`, signatures may use files, Python and the network. `device_memory_bytes` limits what the process
    takes of a GPU; 0 for the server's limit.
    """
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")  # each session has the threads that it was made with
    place = devices.choose(tf, device)
    devices.limit_memory(tf, devices.limit_bytes(device_memory_bytes))
    if model.format not in formats.EXPORTED:
        return _load_at_its_best(tf, model, model.path, place, measuring, allow_unsafe=allow_unsafe)
    with _temporary_folder() as folder:
        exported = folder / "exported"
        saved_model_exports.write(model, exported)
        operation_check.check(replace(model, format=formats.SAVED_MODEL, path=exported), allow=allow_unsafe)
        return _load_at_its_best(tf, model, exported, place, measuring, allow_unsafe=allow_unsafe)


class _Restored(NamedTuple):
    """A graph restored into a session: its meta graph, and the signatures in it."""

    definition: Any
    signatures: dict[str, Tensors]
    restored: frozenset[Resource] = frozenset()
    completed: Completed = Completed()


class GraphModel:
    """A graph with its weights in a session."""

    runtime = "tensorflow"
    is_shareable = True

    def __init__(
        self, session: Any, kind: str, restored: _Restored, session_state: SessionState, *, allow_unsafe: bool = False
    ) -> None:
        self.format = kind
        self._guard = _guard(session.graph, restored, allow_unsafe=allow_unsafe)
        refused = {**self._guard.refused, **restored.completed.refused}
        #: whether the file's own saver leaves some variables without a value
        self.lacked_values = restored.completed.lacked_values
        signatures = {name: each for name, each in restored.signatures.items() if name not in refused}
        remarks = [remark for each in signatures.values() for remark in each.remarks]
        self.remarks = [*refused.values(), *dict.fromkeys(remarks)]
        self._defaults = signature_defaults.read(restored.definition, signatures, _make_ndarray)
        self.signatures = {
            name: signature_defaults.shown(each, self._defaults.get(name, {})) for name, each in signatures.items()
        }
        self._inputs = {name: each.inputs for name, each in signatures.items()}
        self._outputs = {name: each.outputs for name, each in signatures.items()}
        self._session, self._state = session, session_state
        self.is_stateful, self.can_reset_state = session_state.is_stateful, session_state.can_reset
        self._names = GraphNames(session.graph, self.signatures, self._inputs, self._outputs, refused=refused)
        self._why_mixed: OrderedDict[tuple[tuple[str, ...], ...], str] = OrderedDict()
        self._callables: OrderedDict[tuple[Any, ...], GraphCallable] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        try:
            return self._callable(tuple(inputs), tuple(outputs), signature)(*inputs.values())
        except TFserveError:
            raise
        except Exception as error:
            raise _computation_error(error) from error

    def narrowed(self, computations: int) -> GraphModel:
        """Shares the graph and the weights in memory. Raises `Unsupported` for other state than variables."""
        twin, outputs = copy.copy(self), [name for each in self._outputs.values() for name in each.values()]
        twin._session = session_copy.copy(self._session, outputs, threads=concurrent.share(computations))
        twin._callables, twin._lock = OrderedDict(), threading.Lock()
        return twin

    def feeds(self, name: str, signature: str) -> Sequence[ResolvedName]:
        return self._names.feeds(name, signature)

    def fetches(self, name: str, signature: str) -> Sequence[ResolvedName]:
        return self._names.fetches(name, signature)

    def missing(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> list[str]:
        return self._names.missing([*inputs, *self._defaults.get(signature, {})], outputs, signature)

    def known_names(self) -> KnownNames:
        """All names that a request may use."""
        return known_names.of_graph(self._session.graph, self.signatures, DEFAULT_SIGNATURE)

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:
        """Also for names inside the graph that belong to no signature."""
        outward = self._outputs.get(signature, {})
        return self._names.reaches([outward.get(name, name) for name in outputs], self._state.writers)

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        inward, outward = self._inputs.get(signature, {}), self._outputs.get(signature, {})
        fed = tuple(self._names.element(inward.get(name, name)) for name in inputs)
        fetched = tuple(self._names.element(outward.get(name, name)) for name in outputs)
        key = (tuple(each.name for each in fed), tuple(each.name for each in fetched))
        why = self._why_mixed.get(key)
        if why is None:
            why = self._why_mixed[key] = of_tensorflow.why_mixed(self._session.graph, fed, fetched)
            if len(self._why_mixed) > MAX_ROW_WALKS:
                self._why_mixed.popitem(last=False)
        return why

    def reset_state(self) -> None:
        self._state.reset()

    def freeze(self, signature: str) -> tuple[Any, dict[str, str], dict[str, str]]:
        """The graph of a signature with its weights in it, and the tensors of its inputs and outputs by their names."""
        from tensorflow.python.framework import convert_to_constants

        inputs, outputs = self._inputs[signature], self._outputs[signature]
        operations = sorted({tensor.partition(":")[0] for tensor in (*inputs.values(), *outputs.values())})
        graph = convert_to_constants.convert_variables_to_constants_from_session_graph(
            self._session, self._session.graph.as_graph_def(add_shapes=True), operations
        )
        return graph, inputs, outputs

    def close(self) -> None:
        self._callables.clear()
        self._session.close()

    def _callable(self, inputs: tuple[str, ...], outputs: tuple[str, ...], signature: str) -> GraphCallable:
        key = (signature, inputs, outputs)
        with self._lock:
            if (known := self._callables.get(key)) is not None:
                self._callables.move_to_end(key)
                return known
        inward, outward = self._inputs.get(signature, {}), self._outputs.get(signature, {})
        feeds = [self._names.element(inward.get(name, name)).name for name in inputs]
        fetches = [self._names.element(outward.get(name, name)).name for name in outputs]
        required = self._guard.check(feeds, fetches)
        filled = {name: value for name, value in self._defaults.get(signature, {}).items() if name not in feeds}
        made = graph_callables.filling(
            graph_callables.new(self._session, [*feeds, *filled], fetches), tuple(filled.values())
        )
        if required:
            made = graph_callables.requiring(made, feeds, required)
        with self._lock:
            self._callables[key] = made
            if len(self._callables) > MAX_CALLABLES:
                self._callables.popitem(last=False)
        return made


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for all temporary files: TensorFlow leaves some that it removes only at a regular exit."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="tfserve-") as folder:
        tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before


def _load_at_its_best(
    tf: Any, model: Located, path: Path, device: str, measuring: Measuring | None, *, allow_unsafe: bool
) -> GraphModel:
    """A light model in one thread, the caller's own: 7 µs a call of a small network, 70 µs with two threads."""
    with_threads = _load(tf, model, path, device, allow_unsafe=allow_unsafe)
    if measuring is None or not state.may_compute(with_threads):
        return with_threads
    with measuring():
        took_s = call_latency.of_model(with_threads)
    if took_s is None or took_s > call_latency.LIGHT_S:
        state.reset(with_threads)
        return with_threads
    one_thread: dict[str, Any] = {"inter_op_parallelism_threads": -1, "intra_op_parallelism_threads": 1}
    without = _load(tf, model, path, device, allow_unsafe=allow_unsafe, **one_thread)
    with measuring():
        best, other = (
            (without, with_threads) if (call_latency.of_model(without) or 0) < took_s else (with_threads, without)
        )
    other.close()
    state.reset(best)
    return best


def _load(
    tf: Any, model: Located, path: Path, device: str, *, allow_unsafe: bool, with_hints: bool = True,
    with_plan: bool = True, **threads: int,
) -> GraphModel:  # fmt: skip
    """`path` is where the graph is; it differs from the model's own when Keras has exported it."""
    graph, config, session = tf.Graph(), devices.session_config(tf, **threads), None
    plan: RestorePlan | None = None
    try:
        with graph.as_default(), tf.device(device):
            saved = _opened(model, path, with_hints=with_hints)
            if saved is not None and with_plan and device == _CPU:
                plan = saved.plan()
            if plan is not None:
                saved_model_loader.add_plan(tf, plan, config)
            session = tf.compat.v1.Session(graph=graph, config=config)
            with session.as_default():
                if saved is not None:
                    restored = _Restored(*saved.load(session, plan, allow_unsafe=allow_unsafe))
                elif model.weights is not None:
                    restored = _restore_meta_graph(tf, session, path, model.weights, with_hints=with_hints)
                else:
                    restored = _restored(frozen_graph.load(tf, model))
                restored = _complete(tf, session, restored, path if model.weights is None else None)
                session_state = SessionState(tf, session, restored.definition)
        graph.finalize()
        return GraphModel(session, model.format, restored, session_state, allow_unsafe=allow_unsafe)
    except TFserveError:
        _close(session)
        raise
    except Exception as error:
        _close(session)
        if with_hints and saved_model_loader.SHAPE_HINTS in str(error):
            return _load(
                tf, model, path, device, allow_unsafe=allow_unsafe, with_hints=False, with_plan=False, **threads
            )
        if plan is not None:  # whatever is wrong, the file's own saver says it better
            log.debug("%s can't be restored beforehand", path, exc_info=True)
            return _load(
                tf, model, path, device, allow_unsafe=allow_unsafe, with_hints=with_hints, with_plan=False, **threads
            )
        weights = f" with the weights {model.weights}" if model.weights else ""
        raise Invalid(f"{model.path}{weights} can't be loaded as {model.format}: {_why(tf, error)}") from error


def _opened(model: Located, path: Path, *, with_hints: bool) -> SavedModel | None:
    """The SavedModel; None for other formats."""
    if model.weights is not None or model.format == formats.FROZEN_GRAPH:
        return None
    return SavedModel(path, with_hints=with_hints)


def _close(session: Any) -> None:
    if session is not None:
        session.close()


def _why(tf: Any, error: Exception) -> str:
    if unknown := _UNKNOWN_OPERATION.search(str(error)):
        return (
            f"it uses the operation {unknown[1]!r}, which TensorFlow {tf.__version__} does not have. It is a custom"
            " operation (for example of TensorFlow Text or Addons) or was removed (such as those of"
            " tf.contrib). Export the model without it."
        )
    return f"{cause(error)}. The files may be damaged or belong to another model: save or copy them again."


def _restore_meta_graph(tf: Any, session: Any, meta: Path, weights: str, *, with_hints: bool) -> _Restored:
    content = meta.read_bytes()
    definition = tf.compat.v1.MetaGraphDef.FromString(content)
    if not with_hints:
        saved_model_loader.drop_hints(definition)
    saver = tf.compat.v1.train.import_meta_graph(definition, clear_devices=True)
    # State that no checkpoint contains: counters of metrics, and vocabulary tables.
    start = [tf.compat.v1.local_variables_initializer(), tf.compat.v1.tables_initializer()]
    if saver is not None:
        saver.restore(session, weights)
    session.run(start)
    return _restored(definition, content)


def _restored(definition: Any, content: bytes | None = None) -> _Restored:
    """The required parts of an imported meta graph; `content` is its serialized form, if available."""
    signatures = saved_model_file.of_meta_graph(content or definition.SerializeToString())
    return _Restored(definition, signatures)


def _complete(tf: Any, session: Any, restored: _Restored, folder: Path | None) -> _Restored:
    outputs = {name: each.outputs.values() for name, each in restored.signatures.items()}
    completed = uninitialized.complete(tf, session, restored.definition, outputs, folder, restored=restored.restored)
    return restored._replace(completed=completed)


def _guard(graph: Any, restored: _Restored, *, allow_unsafe: bool) -> GraphGuard:
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    operations = Operations(op_def_registry.get, restored.definition.graph_def.library.function)
    inputs = {name: each.inputs for name, each in restored.signatures.items()}
    outputs = {name: each.outputs for name, each in restored.signatures.items()}
    return GraphGuard(graph, operations, inputs, outputs, tf.get_static_value, allow_unsafe=allow_unsafe)


def _make_ndarray(proto: Any) -> Array:
    import tensorflow as tf

    array: Array = tf.make_ndarray(proto)
    return array


def _computation_error(error: Exception) -> TFserveError:
    """Converts an error of a computation to one for callers."""
    import tensorflow as tf

    message = f"TensorFlow could not run the model on these inputs: {cause(error)}."
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return Overloaded(message)
    if isinstance(error, tf.errors.OpError | TypeError | ValueError | KeyError):
        return Invalid(message)
    return Internal(message)
