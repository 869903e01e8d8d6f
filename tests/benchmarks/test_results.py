"""The benchmarks' own arithmetic: what is read from the load generators, medians, budgets and tables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bare_calls, benchmark_app, h2load, nginx, results, wrk
from benchmarks.__main__ import PARTS, orders
from benchmarks.budget import LONGEST_S, SHORTEST_S, Budget
from benchmarks.entrants import NAMES
from benchmarks.load_point import Point
from benchmarks.prediction_tables import markdown, sheets
from benchmarks.process_tree import ProcessTree, role
from benchmarks.requests import ROWS, CheckedCall, CheckedV1Call
from benchmarks.results import MANY, ONE, Cell, Measured
from benchmarks.rows_never_mixed import cycle
from benchmarks.tfserve_participant import is_made
from tfserve.web.api.protos import oip_pb2, tfserving_pb2

WRK = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 32 connections
{"count": 1000, "took_us": 2000000, "status": 100, "connect": 1, "read": 2, "write": 3, "timeout": 4, """
WRK += '"p50_us": 1500.0, "p99_us": 9000.0}\n'


def test_wrk_counts_only_good_responses_in_the_rate_and_everything_else_as_failed() -> None:
    seen = wrk.read(WRK)
    assert (seen.requests, seen.rate, seen.p50_ms, seen.p99_ms, seen.failed) == (1000, 450.0, 1.5, 9.0, 110)


def test_wrk_that_saw_no_response_at_all_divides_by_no_zero() -> None:
    nothing = {**json.loads(WRK.splitlines()[-1]), "count": 0, "status": 0}
    seen = wrk.read(json.dumps(nothing))
    assert (seen.requests, seen.rate) == (1, 0.0)


def test_h2load_reads_its_log() -> None:
    seen = h2load.read("1\t200\t1000\n2\t200\t3000\n3\t503\t9000\n", seconds=2)
    assert (seen.rate, seen.p50_ms, seen.answered, seen.failed) == (1.0, 2.0, 2, 1)


def test_h2load_without_a_response_is_an_error() -> None:
    with pytest.raises(ValueError, match="no call was answered, 1 failed"):
        h2load.read("1\t503\t9000\n", seconds=1)


def test_benchmark_app_reports_rows_and_milliseconds() -> None:
    report = {"execution_results": {"throughput": "352.10", "latency (ms)": "3.25", "max latency": "90.0"}}
    assert benchmark_app.read(report) == Point(352.1, 3.25, None)


def cell(*rates: float) -> Cell:
    made = Cell()
    for rate in rates:
        made.add(ONE, Point(rate / 10, 1.0, 2.0))
        made.add(MANY, Point(rate, 8.0, 9.0, cpu_us={"web": 30.0, "worker": 10.0, "supervisor": 0.5}, client_us=11.0))
    return made


def test_a_cell_shows_medians_and_half_the_range() -> None:
    three = cell(90.0, 100.0, 130.0)
    assert (three.rate(MANY), three.times, three.rates) == (100.0, 3, "10 ±20% / 100 ±20%")
    assert three.milliseconds == "1.00 / 2.00"


def test_a_cell_that_was_interrupted_counts_complete_repetitions() -> None:
    interrupted = cell(90.0, 100.0)
    interrupted.add(ONE, Point(10.0, 1.0, None, failed=3))
    assert (interrupted.times, interrupted.failed) == (2, 3)
    assert interrupted.rates.endswith("(3 failed)")


def test_an_empty_cell_has_no_numbers() -> None:
    assert Cell().rates == "– / –"
    assert Measured("x", "X", cells={"small-json": Cell()}).numbers("small-json") is None


def test_results_survive_the_file(tmp_path: Path) -> None:
    measured = [Measured("triton", "Triton", "1.0", {"small-json": cell(1.0, 2.0), "mobilenet-raw": "why"}, {"a": 5})]
    results.write(measured, tmp_path / "folder" / "run.json")
    assert results.read(tmp_path / "folder" / "run.json") == measured
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["run.json"]


def test_several_runs_are_merged_and_the_later_one_counts() -> None:
    first = [Measured("triton", "Triton", cells={"small-json": cell(1.0), "mobilenet-raw": cell(5.0)}, notes=["a"])]
    second = [Measured("triton", "Triton", cells={"small-json": cell(2.0)}, notes=["a", "b"]), Measured("x", "X")]
    second[0].cells["mobilenet-raw"] = Cell()  # interrupted before its first point
    merged = results.merged([first, second])
    assert [one.name for one in merged] == ["triton", "x"]
    assert merged[0].cells == {"small-json": cell(2.0), "mobilenet-raw": cell(5.0)}
    assert merged[0].notes == ["a", "b"]


def measured() -> list[Measured]:
    rates = {"bare-loop": 400.0, "nginx": 1000.0, "benchmark-app": 500.0, "tfserve": 200.0, "tfserve-auto": 450.0}
    found = [Measured(name, name, cells={"mobilenet-raw": cell(rate)}) for name, rate in rates.items()]
    found += [Measured("triton", "Triton", cells={"mobilenet-raw": cell(100.0)})]
    found += [Measured("kserve", "KServe", cells={"mobilenet-raw": "not installed"})]
    found[3].cells["mobilenet-json"] = cell(40.0)
    found[1].cells["mobilenet-json"] = cell(50.0)
    return found


def lines(title: str, row: str) -> dict[str, str]:
    found, _ = sheets(measured(), [row])
    sheet = next(each for each in found if each.title.startswith(title))
    return {line[0]: line[1] for line in sheet.lines}


def test_the_share_is_that_of_the_lower_limit_and_only_auto_has_openvino() -> None:
    assert lines("Share", "mobilenet-raw") == {
        "tfserve": "50% c / 50% c", "tfserve-auto": "90% c / 90% c", "Triton": "25% c / 25% c",
    }  # fmt: skip


def test_json_numbers_have_the_network_of_the_raw_row() -> None:
    assert lines("Share", "mobilenet-json") == {"tfserve": "80% h / 80% h"}


def test_ratios_name_the_best_peer_and_leave_out_the_limits() -> None:
    found = lines("tfserve: times as fast", "mobilenet-raw")
    assert found == {"the best peer": "2.00 (Triton) / 2.00 (Triton)", "Triton": "2.00 / 2.00", "KServe": "–"}


def test_processor_time_is_split_for_tfserve() -> None:
    assert lines("Processor", "mobilenet-raw")["tfserve"] == "40.5 µs (web 30.0 µs, model 10.0 µs, other 0.5 µs)"
    assert lines("Processor", "mobilenet-raw")["wrk, median over all"] == "11.0 µs"


def test_processor_times_are_compared_with_each_peer() -> None:
    assert lines("tfserve: processor time of …", "mobilenet-raw") == {"Triton": "1.00", "KServe": "–"}


def test_markdown_says_why_a_cell_is_empty() -> None:
    text = markdown(measured(), ["mobilenet-raw"])
    assert "| KServe | – [1] | – |" in text
    assert "[1] KServe: not installed" in text
    assert "medians of 1" in text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_minutes_each_measurement_takes_what_was_given() -> None:
    budget = Budget(None, 8.0, Clock())
    assert budget.row_end(4) is None
    assert budget.measurement_s(None, 10) == 8.0
    assert not budget.is_over(None)


def test_rows_share_what_is_left_of_the_minutes() -> None:
    clock = Clock()
    budget = Budget(10, 8.0, clock)
    assert budget.row_end(4) == 150.0
    clock.now = 300.0
    assert budget.row_end(2) == 450.0
    assert budget.measurement_s(450.0, 10) == LONGEST_S
    assert budget.measurement_s(450.0, 40) == pytest.approx((150 / 40 - 1.7) / 1.25)
    assert budget.measurement_s(450.0, 1000) == SHORTEST_S
    clock.now = 451.0
    assert budget.is_over(450.0)
    assert budget.measurement_s(450.0, 10) == SHORTEST_S


def test_predictions_get_what_the_other_parts_leave() -> None:
    found = {order.name: order for order in orders(PARTS, minutes=60, quick=False)}
    others = sum(part.quick_min for part in PARTS if part.name != "predictions")
    assert found["predictions"].options == ("--minutes", f"{60 - others:g}")
    assert found["under_update"].options == ("--quick",)
    short = {order.name: order for order in orders(PARTS, minutes=10, quick=False)}
    assert short["predictions"].options == ("--minutes", "5")


def test_without_a_limit_every_goal_is_measured_in_full() -> None:
    found = {order.name: order.options for order in orders(PARTS, minutes=None, quick=False)}
    assert found["rows_never_mixed"] == ("--responses", "250000")
    assert found["full_load_soak"] == ("--minutes", "10")
    assert found["predictions"] == ()


def test_processes_of_tfserve_are_known_by_their_commands() -> None:
    assert role(["python", "-P", "-m", "tfserve.web.app", "--line", "22"]) == "web"
    assert role(["python", "-P", "-m", "tfserve.worker", "--fd", "25"]) == "worker"
    assert role(["python", "manage.py", "runserver", "127.0.0.1:0"]) == "supervisor"
    assert role(["tritonserver"]) == "server"


def test_a_process_tree_counts_processor_time_and_memory() -> None:
    tree = ProcessTree(os.getpid())
    assert sum(tree.cpu_s_by_role().values()) > 0
    assert tree.memory_bytes() > 10 * 2**20


@pytest.mark.parametrize("size", [1, 60, 1999, 2000, 2001, 20_000])
def test_nginx_returns_a_constant_of_the_size(size: int) -> None:
    directives = nginx.constant(size)
    assert directives.count("x") == size
    assert max(map(len, directives.split(";"))) < 4096


def test_bare_calls_try_several_settings_for_each_row() -> None:
    for row in ROWS:
        one, many = (bare_calls.settings(row, connections) for connections in (ONE, MANY))
        assert {setting.batch for setting in one} == {1}
        assert len(set(many)) == len(many) > 3


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("openvino was chosen", True),
        ("openvino was chosen; TensorFlow computes what is not within 'x' from -10000 to 10000", True),
        ("stays with tensorflow: no candidate is faster", True),
        ("comparing runtimes", False),
    ],
)
def test_a_choice_of_auto_is_recognised(choice: str, *, expected: bool) -> None:
    assert is_made(choice) is expected


def v1_response(x: Any) -> bytes:
    response = tfserving_pb2.PredictResponse()
    response.outputs["probabilities"].tensor_content = x.tobytes()
    return response.SerializeToString()


def v2_response(x: Any) -> bytes:
    return oip_pb2.ModelInferResponse(raw_output_contents=[x.tobytes()]).SerializeToString()


@pytest.mark.parametrize(("check", "write"), [(CheckedV1Call, v1_response), (CheckedCall, v2_response)])
def test_a_row_of_another_request_is_found(check: type[CheckedCall], write: Callable[[Any], bytes]) -> None:
    rows = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    call = check(b"", rows)
    call.read(write(rows))
    with pytest.raises(ValueError, match="another answer"):
        call.read(write(rows[::-1]))
    with pytest.raises(ValueError, match="expected 4 numbers, got 2"):
        call.read(write(rows[:1]))


def test_a_cycle_ends_after_its_count() -> None:
    assert list(cycle([1, 2, 3], 60, 5)) == [1, 2, 3, 1, 2]


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
