"""What Prometheus is told: figures that go up with what was done, and no word of a document."""

import pytest

from app.main import App
from tests.cluster.conftest import written

pytestmark = pytest.mark.cluster


def test_figures_follow_what_was_done(alone: App, tmp_path_factory: pytest.TempPathFactory) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    from app.metrics import AppMetrics

    metrics = AppMetrics(alone)

    def figures() -> dict[str, float]:
        families = parser.text_string_to_metric_families(metrics.text().decode())
        return {
            f"{each.name}{sorted(each.labels.values())}": each.value for family in families for each in family.samples
        }

    before = figures()
    (path,) = written(tmp_path_factory.mktemp("measured"), 1)
    document_id = alone.library.add(path, path.name, move=False)
    list(alone.library.wait(document_id))
    for _ in range(2):
        list(alone.questions.ask(document_id, "What is the access code of room 2?"))
    after = figures()
    assert after["docpod_first_word_seconds_count[]"] == before["docpod_first_word_seconds_count[]"] + 2
    assert after["docpod_pod_bytes[]"] > before["docpod_pod_bytes[]"]
    assert after["docpod_pods_found_total['memory']"] > before.get("docpod_pods_found_total['memory']", 0.0)
    assert after["docpod_reading_tokens_per_second[]"] > 0 and after["docpod_questions_running[]"] == 0
    assert "access" not in metrics.text().decode()
