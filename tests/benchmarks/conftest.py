"""The engine's fixtures, which what is measured is checked with too."""

from tests.engine.conftest import embedded_runner, llama_runner, one_thread, poisoned, tiny_runner

__all__ = ["embedded_runner", "llama_runner", "one_thread", "poisoned", "tiny_runner"]
