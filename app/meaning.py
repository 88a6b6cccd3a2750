"""Meaning: how near the pages of a document come to a question, also where they use other words.

An optional part. Vectors are made page by page in the background; a document that was parsed earlier gets its own
then. Where the encoder cannot be fetched, or a page has no vectors yet, words alone decide.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from app.windows import windows
from engine.core.errors import ModelMissing
from engine.core.system_errors import as_os_errors
from engine.models.text_encoder import NAME, SIZE, TextEncoder, ensure
from storage import NotStored, StorageFull, Store

log = logging.getLogger(__name__)

_PAGES_AT_ONCE = 8
_POLL_SECONDS = 5.0
_DOCUMENTS = 8
"""Whose vectors stay in memory."""


@dataclass(frozen=True)
class DocumentVectors:
    """The W windows of the P pages that have vectors: `numbers` (P,) of the pages, `first` (P,) of a page's windows,
    and of each window where it begins (W,) and its vector (W, SIZE)."""

    numbers: NDArray[np.int64]
    first: NDArray[np.int64]
    starts: NDArray[np.int32]
    vectors: NDArray[np.float32]
    num_pages: int
    """With those that have no windows."""


@dataclass(frozen=True)
class PageMeaning:
    """Cosines of a page and a question: of the nearest window, and the mean over all of them."""

    best: float
    mean: float
    starts: NDArray[np.int32]
    cosines: NDArray[np.float32]

    def around(self, middles: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of the passages with these characters in their middle (N,): the cosine of the window around it and that of
        the page, added up."""
        windows = np.searchsorted(self.starts, middles, side="right") - 1
        near: NDArray[np.float64] = self.cosines[np.maximum(windows, 0)].astype(np.float64) + self.mean
        return near


class Meaning:
    """The encoder, once it is there, with the vectors of documents."""

    def __init__(self, store: Store, models: Path, wanted: Callable[[], bool] = lambda: True) -> None:
        """`models` is the folder that the encoder is kept in; while it is not wanted, words alone decide."""
        self._store, self._models, self._wanted = store, models, wanted
        self._encoder: TextEncoder | None = None
        self._missing = False
        self._loading = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meaning", daemon=True)
        self._documents: dict[str, DocumentVectors] = {}
        self._last: tuple[str, NDArray[np.float32]] = "", np.zeros(SIZE, np.float32)
        """The last question, which several documents are asked, and its vector."""

    def start(self) -> None:
        """Make vectors in the background from now on."""
        self._thread.start()

    def close(self) -> None:
        """End the background work after the pages at hand."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def complete(self, document_id: str) -> None:
        """Make the vectors that a document lacks, in this thread."""
        while self._add(document_id):
            pass

    def near(self, document_id: str, question: str) -> Mapping[int, PageMeaning]:
        """How near each page comes to a question, by number; of those pages of which that is known."""
        known = self._known(document_id)
        if not len(known.vectors) or (encoder := self._loaded()) is None:
            return {}
        if (last := self._last)[0] != question:
            last = self._last = question, encoder.encode([question])[0]
        cosines = known.vectors @ last[1]
        best = np.maximum.reduceat(cosines, known.first)
        ends = np.append(known.first[1:], len(cosines))
        means = np.add.reduceat(cosines, known.first) / (ends - known.first)
        return {
            number: PageMeaning(top, mean, known.starts[first:end], cosines[first:end])
            for number, top, mean, first, end in zip(
                known.numbers.tolist(), best.tolist(), means.tolist(), known.first.tolist(), ends.tolist(), strict=True
            )
        }

    def _run(self) -> None:
        while not self._closed.is_set() and not self._missing:
            try:
                if not self._wanted() or not self._add():
                    self._closed.wait(_POLL_SECONDS)
            except (NotStored, StorageFull) as error:
                log.info("vectors were not kept: %s", error)
                self._closed.wait(_POLL_SECONDS)

    def _add(self, document_id: str = "") -> bool:
        """Make the vectors of a few pages; whether there were any to make."""
        lacking = self._store.pages_without_vectors(NAME, _PAGES_AT_ONCE, document_id)
        if not lacking or self._closed.is_set() or (encoder := self._loaded(fetch=True)) is None:
            return False
        document_id = lacking[0][0]
        numbers = [number for each, number in lacking if each == document_id]
        texts = self._store.page_texts(document_id, numbers)
        cut = {number: windows(text) for number, text in texts.items()}
        vectors = encoder.encode([text for each in cut.values() for _, text in each]).astype(np.float16)
        rows, first = [], 0
        for number, each in cut.items():
            own = vectors[first : first + len(each)]
            rows.append((number, np.array([start for start, _ in each], dtype=np.int32).tobytes(), own.tobytes()))
            first += len(each)
        self._store.add_vectors(document_id, NAME, rows)
        return True

    def _loaded(self, fetch: bool = False) -> TextEncoder | None:
        """The encoder, if it is on this disk or may be fetched."""
        if not self._wanted():
            return None
        if self._encoder is None and not self._missing:
            with self._loading:
                try:
                    if self._encoder is None and not self._missing:
                        folder = ensure(self._models, fetch)
                        with as_os_errors():
                            self._encoder = TextEncoder(folder) if folder else None
                except (ModelMissing, OSError, ValueError, SafetensorError) as error:
                    log.warning("Passages are found by their words alone: %s", error)
                    self._missing = True
        return self._encoder

    def _known(self, document_id: str) -> DocumentVectors:
        known = self._documents.get(document_id)
        if known is None or known.num_pages != self._store.count_vectors(document_id, NAME):
            rows = self._store.vectors(document_id, NAME)
            with_windows = [(number, np.frombuffer(starts, np.int32), blob) for number, starts, blob in rows if starts]
            counts = [len(starts) for _, starts, _ in with_windows]
            known = DocumentVectors(
                np.array([number for number, _, _ in with_windows], dtype=np.int64),
                np.cumsum([0, *counts[:-1]], dtype=np.int64)[: len(counts)],
                np.concatenate([np.zeros(0, np.int32), *(starts for _, starts, _ in with_windows)]),
                np.frombuffer(b"".join(blob for _, _, blob in with_windows), np.float16)
                .reshape(-1, SIZE)
                .astype(np.float32),
                len(rows),
            )
            kept = list(self._documents.items())[-_DOCUMENTS + 1 :]
            self._documents = dict([*kept, (document_id, known)])
        return known


def nearest(meant: Mapping[int, PageMeaning], count: int) -> Iterator[int]:
    """The pages that come nearest, best first."""
    yield from sorted(meant, key=lambda number: meant[number].best + meant[number].mean, reverse=True)[:count]
