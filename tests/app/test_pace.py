"""How long reading takes, from what was measured: forecasts and chunks that follow the machine."""

import pytest

from app.pace import CHUNK_SECONDS, LEAST_TOKENS, Pace


def machine(first: float, doubles_at: float):
    """Seconds that a machine takes for tokens start..stop, at so many tokens a second in the beginning."""
    return lambda start, stop: (stop - start) * (1 + (start + stop) / 2 / doubles_at) / first


@pytest.mark.parametrize("first", [40.0, 900.0])
@pytest.mark.parametrize("doubles_at", [4_000.0, 9_000.0, 20_000.0])
def test_after_the_first_chunk_the_rest_is_known_within_thirty_percent(first: float, doubles_at: float) -> None:
    """Whatever the guess before, and where the shape of the machine's costs is not the one that is assumed."""
    takes, pace = machine(first, doubles_at), Pace(9_000.0, 256, 0.001)
    pace.note(0, 256, takes(0, 256))
    assert pace.seconds(256, 7_000) == pytest.approx(takes(256, 7_000), rel=0.31)


def test_a_machine_that_slows_down_is_followed() -> None:
    pace = Pace(9_000.0, 256, 0.5)
    for start in range(0, 12_800, 128):
        pace.note(start, start + 128, machine(400.0, 9_000.0)(start, start + 128))
    for start in range(0, 12_800, 128):
        pace.note(start, start + 128, machine(100.0, 9_000.0)(start, start + 128))
    assert pace.seconds(0, 1_000) == pytest.approx(machine(100.0, 9_000.0)(0, 1_000), rel=0.05)
    assert 40 < pace.tokens_per_second < 100


@pytest.mark.parametrize("speed", [200.0, 1_000.0])
def test_a_chunk_takes_no_longer_than_a_question_may_wait(speed: float) -> None:
    takes, pace = machine(speed, 9_000.0), Pace(9_000.0, 64, 64 / speed)
    sizes = [pace.chunk(start, 1_024) for start in (0, 3_000, 7_000)]
    assert sizes == sorted(sizes, reverse=True)
    for start, size in zip((0, 3_000, 7_000), sizes, strict=True):
        assert size % LEAST_TOKENS == 0 and takes(start, start + size) <= CHUNK_SECONDS * 1.1


def test_a_chunk_has_limits_on_very_slow_and_very_fast_machines() -> None:
    assert Pace(9_000.0, 64, 60.0).chunk(0, 1_024) == LEAST_TOKENS
    assert Pace(9_000.0, 64, 0.001).chunk(0, 1_024) == 1_024
