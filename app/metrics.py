"""Metrics: what Prometheus may know of a running app, found out when it asks; nothing of what documents say."""

from collections.abc import Iterator
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from app.main import App


class AppMetrics:
    """The figures of one app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._registry = CollectorRegistry()
        self._registry.register(cast(Any, self))

    def text(self) -> bytes:
        """As Prometheus reads it."""
        text: bytes = generate_latest(self._registry)
        return text

    def describe(self) -> list[Metric]:
        """Nothing is collected before it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """As Prometheus's client asks."""
        app = self._app
        entries = app.library.catalogue.entries()
        stages = GaugeMetricFamily("docpod_documents", "Documents by what is happening to them.", labels=["stage"])
        for stage in sorted({each.progress.stage for each in entries}):
            stages.add_metric([stage], sum(each.progress.stage == stage for each in entries))
        yield stages
        waiting, pods = len(app.library.queue.waiting(entries)), sum(each.pod_bytes for each in entries)
        yield GaugeMetricFamily("docpod_queue_documents", "On their way to be read.", waiting)
        yield GaugeMetricFamily("docpod_questions_running", "Being answered.", app.chat.num_running)
        yield GaugeMetricFamily("docpod_pod_bytes", "Bytes of all pods in the store.", pods)
        yield GaugeMetricFamily("docpod_free_bytes", "Room in the store.", app.free_bytes())
        first, told = app.questions.first_words, "Seconds from a question to its first word."
        yield HistogramMetricFamily("docpod_first_word_seconds", told, first.cumulative(), first.sum)
        if engine := app.model.peek():
            tiers, pace = engine.loaded.tiers, engine.loaded.pace
            yield GaugeMetricFamily("docpod_reading_tokens_per_second", "Of the last chunks.", pace.tokens_per_second)
            found = CounterMetricFamily("docpod_pods_found", "Pods of questions, by where they were.", labels=["tier"])
            for name, number in (("memory", tiers.hits), ("store", tiers.misses)):
                found.add_metric([name], number)
            yield found
            held = GaugeMetricFamily("docpod_tier_bytes", "Bytes of pods in memory.", labels=["tier"])
            for name, number in zip(("device", "host"), tiers.nbytes, strict=True):
                held.add_metric([name], number)
            yield held
