"""Which runtime is chosen, and how a choice is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tfserve.models.runtime_reports import ConversionGuard, Conversions, RuntimeTrial, Served, choose


def trial(runtime: str, cost_s: float, *, ok: bool = True, path: str = "") -> RuntimeTrial:
    best_s = {"1": cost_s, "8": cost_s}
    return RuntimeTrial(runtime=runtime, ok=ok, path=path, compared=3, p50_s=cost_s, best_s=best_s)


TENSORFLOW = trial("tensorflow", 1.0)


@pytest.mark.parametrize(
    ("others", "asked", "chosen"),
    [
        ([], "auto", "tensorflow"),
        ([trial("litert", 0.5), trial("openvino", 0.4)], "auto", "openvino"),
        ([trial("litert", 0.96)], "auto", "tensorflow"),
        ([trial("litert", 0.5, ok=False)], "auto", "tensorflow"),
        ([trial("litert", 2.0)], "litert", "litert"),
        ([trial("litert", 2.0, ok=False)], "litert", "tensorflow"),
        ([trial("litert", 0.5)], "tensorflow", "tensorflow"),
        ([trial("litert", 0.5), trial("openvino", 0.4)], "litert", "litert"),
    ],
)
def test_the_fastest_that_agrees_is_chosen_if_it_is_clearly_faster(
    others: list[RuntimeTrial], asked: str, chosen: str
) -> None:
    found = choose([TENSORFLOW, *others], asked=asked)
    assert found is not None
    assert found.runtime == chosen


def test_nothing_is_chosen_when_nothing_is_ok() -> None:
    assert choose([trial("tensorflow", 1.0, ok=False)]) is None
    assert choose([]) is None


def test_a_runtime_that_was_not_timed_is_never_faster() -> None:
    assert choose([TENSORFLOW, RuntimeTrial(runtime="openvino", ok=True)]) is TENSORFLOW


@pytest.fixture
def conversions(tmp_path: Path) -> Conversions:
    return Conversions(tmp_path / "conversions")


def work_with(conversions: Conversions, *names: str) -> Path:
    work = conversions.begin("key")
    for name in names:
        (work / name).mkdir()
        (work / name / "model").write_text(name)
    (work / "reference.msgpack").write_bytes(b"x")
    return work


def test_only_the_chosen_model_is_kept_and_found_again(conversions: Conversions) -> None:
    work = work_with(conversions, "openvino", "litert")
    trials = [TENSORFLOW, trial("openvino", 0.5, path="openvino/model"), trial("litert", 0.6, path="litert/model")]
    report = conversions.end("key", work, trials, precision="float32")
    assert report.chosen == "openvino"
    assert Path(report.path).read_text() == "openvino"
    assert sorted(child.name for child in Path(report.path).parents[1].iterdir()) == ["openvino", "report.json"]
    assert not work.exists()
    assert conversions.find("key") == report
    assert conversions.find("other") is None


def test_tensorflow_as_the_choice_is_remembered_too(conversions: Conversions) -> None:
    report = conversions.end("key", work_with(conversions, "litert"), [TENSORFLOW], precision="float32")
    assert (report.chosen, report.path) == ("tensorflow", "")
    assert conversions.find("key") == report


def test_a_later_answer_replaces_the_one_before(conversions: Conversions) -> None:
    conversions.end("key", work_with(conversions), [TENSORFLOW], precision="float32")
    trials = [TENSORFLOW, trial("litert", 0.5, path="litert/model")]
    conversions.end("key", work_with(conversions, "litert"), trials, precision="float32")
    found = conversions.find("key")
    assert found is not None
    assert found.chosen == "litert"


def test_what_was_requested_does_not_touch_what_was_chosen(conversions: Conversions) -> None:
    trials = [TENSORFLOW, trial("openvino", 0.5, path="openvino/model")]
    chosen = conversions.end("key", work_with(conversions, "openvino"), trials, precision="float32")
    trials = [TENSORFLOW, trial("litert", 2.0, path="litert/model")]
    asked = conversions.end("key", work_with(conversions, "litert"), trials, precision="float32", asked="litert")
    assert conversions.find("key") == chosen
    assert conversions.find("key", asked="litert") == asked
    assert conversions.find("key", asked="onnxruntime") is None


def test_a_damaged_report_or_a_lost_model_is_as_good_as_none(conversions: Conversions) -> None:
    trials = [TENSORFLOW, trial("litert", 0.5, path="litert/model")]
    report = conversions.end("key", work_with(conversions, "litert"), trials, precision="float32")
    Path(report.path).unlink()
    assert conversions.find("key") is None
    Path(report.path).touch()
    (Path(report.path).parents[1] / "report.json").write_bytes(b'{"chosen": ')
    assert conversions.find("key") is None


def test_a_damaged_model_does_not_count_and_is_replaced(conversions: Conversions) -> None:
    trials = [TENSORFLOW, trial("litert", 0.5, path="litert/model")]
    report = conversions.end("key", work_with(conversions, "litert"), trials, precision="float32")
    Path(report.path).write_text("liter7")
    assert conversions.find("key") is None
    again = conversions.end("key", work_with(conversions, "litert"), trials, precision="float32")
    assert Path(again.path).read_text() == "litert"
    assert conversions.find("key") == again


def test_how_a_chosen_runtime_was_deployed_is_known_for_the_same_options(conversions: Conversions) -> None:
    assert not conversions.has_any()
    trials = [TENSORFLOW, trial("litert", 0.5, path="litert/model")]
    report = conversions.end("key", work_with(conversions, "litert"), trials, precision="float32")
    assert conversions.has_any()
    assert conversions.served("key", b"options") is None
    served = Served(options=b"options", signatures={"serving_default": {"inputs": []}}, image=None)
    conversions.set_served(report, served)
    assert conversions.served("key", b"options") == (report, served)
    assert conversions.served("key", b"others") is None
    assert conversions.served("other", b"options") is None
    Path(report.path).write_text("liter7")
    assert conversions.served("key", b"options") is None


def test_a_report_without_any_comparison_is_neither_kept_nor_believed(conversions: Conversions) -> None:
    uncompared = RuntimeTrial(runtime="tensorflow", ok=True, needs_samples=True, reason="8 requests are needed")
    report = conversions.end("key", work_with(conversions, "litert"), [uncompared], precision="float32")
    assert report.needs_samples
    assert conversions.find("key") is None
    asked = RuntimeTrial(runtime="litert", ok=True, path="litert/model")
    report = conversions.end(
        "key", work_with(conversions, "litert"), [uncompared, asked], precision="float32", asked="litert"
    )
    assert report.chosen == "litert"
    assert Path(report.path).exists(), "what was requested serves without a comparison"
    assert conversions.find("key", asked="litert") is None
    old = Path(report.path).parents[1] / "report.json"
    old.write_bytes(msgspec.json.encode(report))
    assert conversions.find("key", asked="litert") is None


def test_the_guard_of_what_was_chosen_is_read_back_as_it_was(conversions: Conversions) -> None:
    guard = ConversionGuard({"x": (-(2**63), 2**64 - 1), "y": (1.4e-45, 3.4028234663852886e38)}, ascii_only=True)
    chosen = msgspec.structs.replace(trial("litert", 0.1, path="litert/model"), guard=guard)
    conversions.end("key", work_with(conversions, "litert"), [TENSORFLOW, chosen], precision="float32")
    found = conversions.find("key")
    assert found is not None
    assert found.guard == guard


def test_a_converted_model_is_recognised_by_its_path(conversions: Conversions, tmp_path: Path) -> None:
    chosen = trial("litert", 0.1, path="litert/model")
    work = work_with(conversions, "litert")
    report = conversions.end("key", work, [TENSORFLOW, chosen], precision="float32", asked="litert")
    assert conversions.of(report.path) == (report, None)
    for path in (
        str(tmp_path / "elsewhere"),
        str(Path(report.path).with_name("other")),
        str(tmp_path / "conversions/x"),
    ):
        assert conversions.of(path) is None


def test_work_that_was_given_up_leaves_nothing(conversions: Conversions, tmp_path: Path) -> None:
    conversions.abandon(work_with(conversions, "litert"))
    work_with(conversions)
    Conversions(tmp_path / "conversions").clear_aside()
    assert list((tmp_path / "conversions").iterdir()) == []
