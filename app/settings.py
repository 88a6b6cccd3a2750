"""The one place where a run of DocPod is configured: command line, then environment, then default."""

from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_data_path


@dataclass(frozen=True)
class Settings:
    """Every setting; each is an option of `docpod` and an environment variable `DOCPOD_<NAME>`."""

    home: Path = field(default_factory=lambda: user_data_path("docpod", appauthor=False))
    """Folder that holds the library, the pods and the embedded model."""
    model: str = ""
    """Reader: `auto`, `embedded`, a local folder or GGUF file, or a hub id such as `Qwen/Qwen3-4B-Instruct-2507`; where
    it is not given, as was last chosen on the page, at first auto."""
    meaning: bool = True
    """Find passages in other words than the question's, with a small text encoder (91 MB, fetched once)."""
    recipe: str = ""
    """How a document's memory is compressed; where it is not given, as was last chosen on the page, at first exact."""
    host: str = "127.0.0.1"
    """Address the page is served on."""
    port: int = 7860
    """First port to try; the next free one is taken."""
    page_password: str = field(default="", repr=False)
    """Lets whoever has it in from other machines, with everything that the user of this one may do; for `--host`."""
    share: bool = False
    """Share all documents of the library by a link from the start, for a day; the page can share some, or end it."""
    listen: bool = False
    """Let others on the local network reach what is shared, by a link or a password as with a link on the internet."""
    window: bool = False
    """Open the page in a window of its own, and end when that is closed."""
    browser: bool = True
    """Open the page in the browser at start."""
    max_upload_mb: int = 200
    """Largest file accepted, in megabytes."""
    max_pages: int = 100_000
    """Longest document accepted, in pages."""
    page_seconds: int = 20
    """Processor seconds that the text of one page may take before the page is named unreadable."""
    max_answer_tokens: int = 256
    """Longest answer, in tokens."""
    chunk_tokens: int = 0
    """Tokens read between two saves; a crash loses at most one chunk. 0 takes 1024, and up to 4096 on a GPU."""
    memory_mb: int = 0
    """Memory that pods may stay in, in megabytes, so that a next question need not load them; 0 takes a quarter of what
    is free at the start."""
    gpu_memory_mb: int = 0
    """The same on the GPU, where there is one; 0 takes half of what the loaded model leaves free."""
    threads: int = 0
    """Processor threads for the model; 0 takes all physical cores."""
