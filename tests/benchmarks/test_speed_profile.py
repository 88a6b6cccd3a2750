"""Profiles of the bench: where the time of a token goes, and that of a chunk that is read."""

import json
from pathlib import Path

import pytest

from benchmarks.speed import __main__ as command
from benchmarks.speed import profile, reading_profile
from benchmarks.speed.profile import Kernel
from benchmarks.speed.reading_profile import Span


@pytest.mark.slow
def test_a_profile_says_where_a_token_goes(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.speed.bandwidth._CPU_BYTES", 1 << 20)
    said: list[str] = []
    (tmp_path / "cpu-dtype.txt").write_text("bfloat16")
    arguments = ["--quick", "--model", str(tiny_model_dir), "--models", str(tmp_path), "--kv", "bf16", "--profile"]
    arguments += ["--lengths", "300", "--tokens", "3", "--repeats", "1", "--systems", "docpod"]
    command.main(arguments, said.append)
    (head, *rest) = [line for line in said if line.startswith("profile, kv bf16, 300 tokens: ")]
    assert "us a token by the clock" in head
    assert any("aten::" in line for line in rest) and "others" in rest[-1]

    def broken(*facts: object) -> list[Kernel]:
        raise AssertionError("no counters here\nand more")

    monkeypatch.setattr("benchmarks.speed.profile.seen", broken)
    command.main(arguments, said.append)
    assert [line for line in said if line == "profile, kv bf16, 300 tokens: none, AssertionError: no counters here"]
    assert len(json.loads(said[-1])["rows"]) == 1, "the row is there all the same"


def test_a_profile_counts_per_token() -> None:
    kernels = [Kernel(f"kernel {number}", 32.0, 100.0) for number in range(15)]
    head, first, *_, last = profile.lines(kernels, 3000.0)
    assert head == "3,000 us a token by the clock, 1,500 us (50%) in 480 launches"
    assert first.split() == ["100.0", "us", "7%", "32.0", "x", "3.12", "us", "kernel", "0"]
    assert last.split() == ["100.0", "us", "7%", "32.0", "x", "1", "others"]


@pytest.mark.slow
def test_a_profile_of_reading_says_where_the_last_chunk_goes(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setattr("benchmarks.speed.bandwidth._CPU_BYTES", 1 << 20)
    said: list[str] = []
    arguments = ["--quick", "--model", str(tiny_model_dir), "--models", str(tmp_path), "--kv", "int4s", "--profile"]
    arguments += ["--lengths", "600", "--tokens", "2", "--repeats", "1", "--systems", "docpod", "--chunk", "128"]
    command.main([*arguments, "--stored", "1"], said.append)
    # Sinks stand in front of whole chunks of 128.
    head, facts, *rest = [line for line in said if line.startswith("profile of reading, kv int4s, tokens 528 to 600: ")]
    assert "tok/s" in head and "MB are written in" in head
    assert "the device works for" in facts
    assert any(line.endswith("products") for line in rest) and any("aten::" in line for line in rest)

    def broken(*facts: object) -> list[Span]:
        raise RuntimeError("no counters here\nand more")

    monkeypatch.setattr(reading_profile, "seen", broken)
    command.main([*arguments, "--stored", "1"], said.append)
    assert said[-3].endswith("no profile, RuntimeError: no counters here")


def test_a_profile_of_reading_counts_what_overlaps_once() -> None:
    spans = [
        Span("nvjet_gemm", 0, 100),
        Span("_norm", 50, 120),
        Span("_merge", 220, 230),
        Span("Memcpy HtoD", 231, 240),
    ]
    facts, title, first, *rest = reading_profile.lines(spans, 300.0)
    assert facts == (
        "the device works for 0.1 ms (46%) in 4 launches; between them 0.1 ms, of which 0.1 in 1 gaps of 20 us and more"
    )
    assert title == "by kind:" and first.split() == ["100.0", "us", "53%", "1.0", "x", "100.00", "us", "products"]
    assert [line.split("us  ")[-1] for line in rest[:3]] == [
        "norms, gates, rotary positions", "turning and merging", "copies",
    ]  # fmt: skip
    assert rest[3] == "by name:" and rest[4].endswith("nvjet_gemm")
