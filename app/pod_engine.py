"""The pod engine: a loaded model with all that makes pods with it, prices them, and brings them back."""

from collections.abc import Callable
from dataclasses import dataclass

from app.block_store import BlockStore
from app.document_reader import DocumentReader
from app.intake import Intake
from app.model_work import ModelWork
from app.oom_retry import OomRetry
from app.planning import Planner
from app.presets import Presets
from app.reader_model import Loaded
from app.recall import Recaller
from app.section_reader import SectionReader
from app.settings import Settings
from engine.runtime.prefill import builder
from engine.runtime.prefill.builder import reads_ahead
from storage import Home, Store


@dataclass(frozen=True)
class PodEngine:
    """What there is once the model is loaded, and not before."""

    loaded: Loaded
    oom_retry: OomRetry
    planner: Planner
    presets: Presets
    reader: DocumentReader
    recaller: Recaller
    work: ModelWork


def equip(store: Store, home: Home, loaded: Loaded, settings: Settings) -> PodEngine:
    """Wires it together around a loaded model."""
    oom_retry = OomRetry(loaded)
    block_store = BlockStore(store, home, loaded.runner, loaded.staging)
    reader = SectionReader(store, block_store, loaded, oom_retry, _chunk(loaded, settings))
    return wired(store, home, loaded, settings, oom_retry, block_store, reader, ModelWork(loaded, oom_retry))


def wired(
    store: Store,
    home: Home,
    loaded: Loaded,
    settings: Settings,
    oom_retry: OomRetry,
    block_store: BlockStore,
    section_reader: SectionReader,
    work: ModelWork,
) -> PodEngine:
    """The engine around what reads sections and what answers from them, wherever these are."""
    recaller = Recaller(store, loaded, block_store, oom_retry, Intake(store, home, settings).parse_anew)
    planner = Planner(store, home, loaded)
    return PodEngine(
        loaded,
        oom_retry,
        planner,
        Presets(store, loaded.recipes, planner, settings),
        DocumentReader(store, home, loaded, planner, recaller, section_reader, block_store),
        recaller,
        work,
    )


def _chunk(loaded: Loaded, settings: Settings) -> Callable[[int], int]:
    """Tokens of the next chunk, at each position of a section: on a processor so few that a question waits for one."""
    device = loaded.runner.model.device
    most = settings.chunk_tokens or builder.chunk_tokens(device)
    if settings.chunk_tokens or reads_ahead(device):
        return lambda start: most
    return lambda start: loaded.pace.chunk(start, most)
