"""The simulation says what can be worked out by hand, and its forecast follows from measured figures."""

from dataclasses import replace

import pytest

from benchmarks.scale.forecast import Price, forecast
from benchmarks.scale.simulation import Fleet, Load, popular, replicas_for, simulate


def test_one_replica_with_enough_memory_answers_one_after_another() -> None:
    load = Load(documents=10, questions=4_000, clients=4)
    found = simulate(load, Fleet(replicas=1, hot=0.5, cold=2.0, kept=10))
    assert found.throughput == pytest.approx(2.0, rel=0.01) and found.hot == 1.0
    assert found.median == pytest.approx(2.0, rel=0.01) and found.busy == pytest.approx(1.0, rel=0.01)


def test_popularity_is_by_zipf_and_memory_that_holds_less_is_cold_more_often() -> None:
    load = Load(documents=1_000, questions=20_000, rate=1.0)
    first = sum(document == 0 for document in popular(load)) / load.questions
    assert first == pytest.approx(1 / sum(1 / rank for rank in range(1, 1_001)), rel=0.1)
    fleet = Fleet(replicas=3, hot=0.1, cold=0.5, kept=10)
    assert simulate(load, fleet).hot < simulate(load, replace(fleet, kept=100)).hot < 1.0


def test_a_hot_document_takes_several_replicas_and_more_of_them_are_quicker() -> None:
    load, fleet = Load(documents=1, questions=8_000, rate=6.0), Fleet(replicas=8, hot=0.25, cold=0.25, kept=1)
    assert simulate(load, replace(fleet, copies=1)).p95 > 100
    assert simulate(load, replace(fleet, copies=3, queue=2)).p95 < 3
    many = Load(documents=100, questions=8_000, rate=6.0)
    needed = replicas_for(many, fleet, p95=2.0)
    assert simulate(many, replace(fleet, replicas=needed)).p95 <= 2.0 < simulate(many, replace(fleet, replicas=1)).p95


def test_a_forecast_counts_bytes_and_gpu_hours_as_they_were_measured() -> None:
    row = forecast(1_000, 30_000, "k4v4hs", 10.0, 128, 1.0, 3.0, Price())
    assert row["reading_gpu_hours"] == round(1_000 * 30_000 / 14_939.2 / 3600)
    assert row["cents_answering"] == pytest.approx(100 * row["answerers"] * 3 / 36_000, rel=0.01)
