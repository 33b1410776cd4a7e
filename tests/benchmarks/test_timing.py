"""Turns, warm-up, memory, limits and figures."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.speed.figures import Job, Measurement, Report, Target, ratio, share
from benchmarks.speed.limits import Limits, measure_limits
from benchmarks.speed.timing import Route, Timing, interleave, peak_memory, threads

LIMITS = Limits(bfloat16=1000.0, float32=100.0, read=50.0, copy=40.0)


def measurement(name: str, *seconds: float, count: int = 10) -> Measurement:
    return Measurement.of(name, Timing(seconds), Job(count, "users", 200.0, "float32"), LIMITS)


def test_routes_take_turns_and_prepare_each_time() -> None:
    heard: list[object] = []
    routes = {"a": Route(heard.append, lambda: f"a{len(heard)}"), "b": Route(heard.append, lambda: "b")}
    timings = interleave(routes, repeats=2, warm_up=1)
    assert heard == ["a0", "b", "a2", "b", "a4", "b"]
    assert all(len(timing.seconds) == 2 for timing in timings.values())


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with threads(1) as count:
        assert (count, torch.get_num_threads()) == (1, 1)
    with threads(None) as count:
        assert count == before
    assert torch.get_num_threads() == before


def test_peak_memory_sees_what_is_freed_again() -> None:
    peak = peak_memory(lambda: [torch.ones(2**24).sum() for _ in range(5)])
    if peak is None:
        pytest.skip("no /proc here")
    assert 2**25 < peak < 2**28


def test_the_slower_limit_binds() -> None:
    assert LIMITS.least_seconds(200.0, "float32") == (2.0, "compute")
    assert LIMITS.least_seconds(200.0, "bfloat16", read=100.0) == (2.0, "memory")
    assert LIMITS.best(Limits(900.0, 110.0, 60.0, 30.0)) == Limits(1000.0, 110.0, 60.0, 40.0)


def test_measured_limits_are_positive() -> None:
    assert min(measure_limits(side=32).as_dict().values()) > 0


def test_rates_and_shares() -> None:
    found = measurement("ours", 4.0, 5.0, 8.0)
    assert (found.median, found.low, found.high, found.unit) == (2.0, 1.25, 2.5, "users/s")
    assert (found.limit_share, found.bound) == (0.4, "compute")
    assert share("ours", found, 30.0) == Target("ours", "%", 40.0, 25.0, 50.0, 30.0)


def test_a_ratio_compares_rates_of_the_same_round() -> None:
    # Ours does 20 users where theirs does 10: rates 20/1, 20/2, 20/4 against 10/5, 10/10, 10/5.
    found = ratio("a / b", measurement("a", 1.0, 2.0, 4.0, count=20), measurement("b", 5.0, 10.0, 5.0), 10.0)
    assert (found.median, found.low, found.high, found.met) == (10.0, 2.5, 10.0, True)
    assert ratio("a / b", measurement("a", 1.0), measurement("b", 0.8), 80.0, unit="%").median == pytest.approx(80.0)


def test_targets_are_floors_or_ceilings() -> None:
    assert Target("p50", "ms", 24.0, 20.0, 30.0, 25.0, at_most=True).met is True
    assert Target("p50", "ms", 26.0, 20.0, 30.0, 25.0, at_most=True).met is False
    assert Target("speed", "x", 26.0, 20.0, 30.0).met is None


def test_a_report_is_json() -> None:
    report = Report("train", {"users": 1}, LIMITS, [measurement("a", 1.0)], [Target("a", "x", 1.0, 1.0, 1.0)], {"b": None}, ["c"])
    read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert read["measurements"][0]["seconds"] == [1.0]
    assert read["limits"]["read_gbytes"] == 50e-9
    assert {"date", "command", "commit", "machine"} <= read.keys()
