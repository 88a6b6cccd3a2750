"""The model behind the library, loaded in the background so that the page is there first."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from app.errors import ModelUnavailable
from app.events import ReaderStatus
from app.idle import Idle
from app.log_file import NAME
from app.pace import Pace
from app.prompts import Prompts
from app.recipe_registry import RecipeRegistry
from app.settings import Settings
from engine.core.errors import EngineError, ModelRefused, OutOfMemory, PlanMissing, RecipeUnknown
from engine.core.oom import translate_oom
from engine.core.pinned_staging import Staging
from engine.evidence import heads
from engine.evidence.calibration import calibrate
from engine.kvcache.layout import Layout
from engine.kvcache.recipe import NAMED
from engine.models import loader
from engine.offload.tiers import limits, tiered_cache
from engine.runtime.backend import runner_for
from engine.runtime.prefill.builder import PodBuilder, chunk_tokens, reads_ahead
from engine.runtime.prefill.warmup import prepare_reading
from engine.runtime.warmup import warm_up

log = logging.getLogger(__name__)

MB = 1_000_000
_STEP_SECONDS = 5.0
"""Closing waits no longer for a step of calibration, which takes that long only where reading is slow."""
_PATIENCE_SECONDS = 300.0
"""So long an answer may take before another model is loaded beside it."""
_PROBE_TOKENS = 256
_TOGETHER = 2
"""Sections that a question is answered from together."""
_ONE_BY_ONE = "a longer document is answered from its best section alone, since this reader's layers keep a state"
_PACKING = "k4v4hs"
"""Reads by the kernels of most recipes that pack while reading."""


class _Closed(Exception):
    """Nobody wants what is being worked on any longer."""


class ReaderModel:
    """A model with its prompts and evidence heads; `ready` waits for it, `status` never does."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        after: Callable[[], None] = lambda: None,
        choice: str = "",
        load: "Load | None" = None,
    ) -> None:
        """The one that the settings name, unless there is another `choice`; it is loaded once `after` has returned.

        `load` is how; by default into this process.
        """
        self._make = load or load_here
        self._settings = settings
        self.choice = choice or settings.model
        """What it is chosen by, as `--model` takes it."""
        self._after = after
        self._folder = folder
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._starting = threading.Lock()
        self._settled = threading.Event()
        self._calibrated = threading.Event()
        self._idle = Idle()
        self._status = ReaderStatus("loading", self.choice, "Loading the model.")
        self._failure = ModelUnavailable(
            "The model was not loaded.", f"Start DocPod again; {NAME} in the home folder may say why."
        )
        self._loaded: Loaded | None = None

    def start(self) -> None:
        """Begin to load, once."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def status(self) -> ReaderStatus:
        """What the page may say of the model at this moment."""
        return self._status

    def ready(self) -> "Loaded":
        """The loaded model. Raises ModelUnavailable."""
        self.start()
        self._settled.wait()
        if self._loaded is None:
            raise self._failure
        return self._loaded

    def settled(self, seconds: float) -> bool:
        """Wait at most so long; whether the model is there, or failed, by then."""
        self.start()
        return self._settled.wait(seconds)

    def calibrated(self, seconds: float) -> bool:
        """Wait at most so long; whether nothing more is being found out about the model by then."""
        return self._calibrated.wait(seconds)

    def close(self) -> None:
        """Let nobody wait for the model any longer; what it is at work on ends after its step, or with the process."""
        self._idle.close()
        self._settled.set()
        if self._loaded is not None:
            self._thread.join(_STEP_SECONDS)

    def let_go(self) -> None:
        """Close it once nobody is at work with it, and let others have its memory."""
        # Whoever is at work may be about to wait for the next model.
        self._idle.wait(_PATIENCE_SECONDS)
        self.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._loaded = None
        gc.collect()

    def _run(self) -> None:
        try:
            self._after()
            self._load()
            if self._loaded is None:
                return
            # Whoever waited for the model goes first.
            with self._idle.work():
                pass
            for _ in self._loaded.prepare_reading():
                if not self._idle.wait():
                    return
            if not self._loaded.heads.calibrated:
                self._calibrate(self._loaded)
            if self._loaded.runner.graph_runner is not None:
                self._warm_up(self._loaded)
        finally:
            self._status = replace(self._status, doing="")
            self._calibrated.set()

    def _load(self) -> None:
        try:
            with translate_oom():
                loaded = self._make(self.choice, self._settings, self._folder, self._say, self._idle)
            model = loaded.runner.model
            doing = "" if loaded.heads.calibrated else _calibrating(model.name, 0.0)
            self._status = ReaderStatus("ready", model.name, f"{model.why}; {loaded.facts}", model.better, doing)
            self._loaded = loaded
        except ModelUnavailable as error:
            self._failure = error
        except (PlanMissing, RecipeUnknown) as error:
            self._failure = ModelUnavailable(f"{error}.", "Or choose another recipe: --recipe exact.")
        except OutOfMemory as error:
            self._failure = ModelUnavailable(
                f"{self.choice} does not fit: {error}.",
                "Close other programs that use memory, or choose a smaller model: --model embedded.",
            )
        except EngineError as error:
            hint = error.hint if isinstance(error, ModelRefused) else ModelRefused.hint
            self._failure = ModelUnavailable(str(error), hint)
        except OSError as error:
            # Of a small file beside the weights; what cannot be read of these is damage.
            self._failure = ModelUnavailable(
                f"The model could not be read: {error.strerror or error}.",
                "Check the disk of the home folder, and how many files may be open, then start DocPod again.",
            )
        finally:
            if self._loaded is None:
                # Also after a bug, whose traceback the thread prints: nobody may wait for ever.
                message, hint = self._failure.message, self._failure.hint
                self._status = ReaderStatus("failed", self.choice, message, hint)
            self._settled.set()

    def _calibrate(self, loaded: "Loaded") -> None:
        """Find the model's evidence heads, once, while nobody else needs it."""
        name = loaded.runner.model.name

        def pause(share: float) -> None:
            self._status = replace(self._status, doing=_calibrating(name, share))
            if not self._idle.wait():
                raise _Closed

        try:
            with translate_oom():
                loaded.heads = calibrate(loaded.runner, pause=pause)
            log.info("found out where %s looks for an answer", name)
            loaded.heads.save(self._folder)
        except _Closed:
            log.info("where %s looks for an answer is found out at another start", name)
        except (EngineError, OSError) as error:
            log.warning("where %s looks for an answer was not found out, or not kept: %s", name, error)

    def _warm_up(self, loaded: "Loaded") -> None:
        """Compile and capture what questions over the other named recipes need, while nobody else needs the model."""
        for recipe in NAMED:
            # What is coded comes back exact, which was warmed up at the start.
            if loaded.recipes.why_not(recipe) or loaded.recipes[recipe].layout.recipe.coding.step:
                continue
            if not self._idle.wait():
                return
            try:
                with translate_oom():
                    loaded.warm_up(recipe)
            except EngineError as error:
                log.warning("the first question over %s will take longer: %s", recipe, error)

    def _say(self, sentence: str) -> None:
        log.info(sentence)
        self._status = ReaderStatus("loading", self.choice, sentence)


def _calibrating(name: str, share: float) -> str:
    return (
        f"Finding out where {name} looks for an answer, once: {share:.0%}. "
        "Until then passages are chosen by their words above all."
    )


Load = Callable[[str, Settings, Path, Callable[[str], None], Idle], "Loaded"]
"""Loads a choice of a model, with the folder of models, and says meanwhile what it does."""


def load_here(choice: str, settings: Settings, folder: Path, say: Callable[[str], None], idle: Idle) -> "Loaded":
    """A model in this process. Raises EngineError, and OSError where it cannot be read."""
    return Loaded(loader.load(choice, folder, say, settings.threads), settings, folder, say, idle)


class Loaded:
    """A model that can be asked, with everything that a pod's identity depends on."""

    def __init__(
        self, model: loader.Model, settings: Settings, folder: Path, on_progress: Callable[[str], None], idle: Idle
    ) -> None:
        self.runner = runner_for(model)
        self._weight_bytes = loader.held_bytes(model)
        self.idle = idle
        """Everybody who works with the runner is counted here."""
        self.prompts = Prompts(model.tokenizer)
        layers, num_heads = model.shape.layers, model.network.config.num_attention_heads
        self.heads = heads.find(model.name, model.digest, folder) or heads.default(
            model.name, model.digest, layers, num_heads
        )
        """Others may take their place while the model is used; whoever needs them twice keeps them."""
        self.recipes = RecipeRegistry(model, self.prompts, folder, settings.recipe or "exact")
        self.pace = self._probe()
        if self.runner.graph_runner is not None:
            on_progress(f"Trying out how {model.name} answers.")
        for recipe in dict.fromkeys(("exact", settings.recipe or "exact")):
            self.warm_up(recipe)
        self.prefill = ThreadPoolExecutor(1, "prefill")
        """The thread that reads on a GPU: attention's plans for long chunks belong to the thread that made them."""
        chunk = settings.chunk_tokens or chunk_tokens(model.device)
        self._reading_steps = prepare_reading(self.runner, self._read_by(settings), chunk, self.section_tokens)
        self.staging = Staging(model.device)
        self.staging.warm()
        # Last, since the limits follow from what is free by now.
        self.tiers = tiered_cache(model.device)
        self.limit_memory(settings)

    def limit_memory(self, settings: Settings) -> None:
        """Hold no more pods in memory from now on than the settings say."""
        device = self.runner.model.device
        self.tiers.limit(*limits(device, settings.gpu_memory_mb * MB, settings.memory_mb * MB))

    def warm_up(self, recipe: str) -> None:
        """Ask questions over sections of a recipe that hold nothing; see engine.runtime.warmup."""
        whole = self.heads.answers_from == "sections"
        warm_up(self.runner, self.recipes[recipe].layout, self.section_tokens, self.heads.heads, whole)

    def prepare_reading(self) -> Iterator[None]:
        """Before each step of what a GPU compiles and plans for reading, much of which the first document may not need;
        see engine.runtime.prefill.warmup."""
        if not reads_ahead(self.runner.model.device):
            return
        yield
        while self.prefill.submit(next, self._reading_steps, True).result() is None:
            yield

    @property
    def num_bytes(self) -> int:
        """About what it takes of the memory that it runs in, with the pods that are kept there."""
        return self._weight_bytes + self.tiers.nbytes[0]

    @property
    def facts(self) -> str:
        """What this run has chosen, in words."""
        limits = " and ".join(f"{limit / 1e9:.1f} GB {place}" for place, (_, limit) in self._room().items())
        alone = "" if self.runner.model.shape.attends_together else f"; {_ONE_BY_ONE}"
        return f"{self.runner.backend}; pods stay in up to {limits}{alone}"

    def room(self) -> dict[str, str]:
        """How much of the memory for pods is used, by where it is."""
        return {place: f"{held / 1e9:.1f} of {limit / 1e9:.1f} GB" for place, (held, limit) in self._room().items()}

    def _read_by(self, settings: Settings) -> list[Layout]:
        """How a document may be read: exactly, whatever is made of it then, or by a recipe that packs meanwhile."""
        names = dict.fromkeys(("exact", _PACKING, settings.recipe or "exact"))
        layouts = (self.recipes[name].layout for name in names if not self.recipes.why_not(name))
        return [each for each in layouts if each.recipe.exact or each.recipe.precision.while_reading]

    def _room(self) -> dict[str, tuple[int, int]]:
        """Bytes held and their limit."""
        both = zip(self.tiers.nbytes, (self.tiers.device_limit, self.tiers.host_limit), strict=True)
        gpu = self.runner.model.device.type == "cuda"
        return dict(zip(("on the GPU", "of memory") if gpu else ("of memory",), both, strict=False))

    @property
    def sections_together(self) -> int:
        """How many sections a question is answered from at once: a state goes on from one of them."""
        return _TOGETHER if self.runner.model.shape.attends_together else 1

    @property
    def section_tokens(self) -> int:
        """Longest section: the window, less the room for a conversation, a question and an answer."""
        window = self.runner.model.window
        return window - min(1536, window // 2)

    @property
    def question_tokens(self) -> int:
        """Longest question with its conversation; what is left of the room is for the answer."""
        return (self.runner.model.window - self.section_tokens) * 2 // 3

    def _probe(self) -> Pace:
        """The speed of reading, guessed from a short chunk, the second of two."""
        count = min(_PROBE_TOKENS, self.section_tokens)
        for _ in range(2):
            builder = PodBuilder(self.runner, count)
            start = time.perf_counter()
            builder.feed([0] * count)
            seconds = time.perf_counter() - start
        return Pace(self._doubles_at, count, seconds)

    @property
    def _doubles_at(self) -> float:
        """The position at which attention costs as much as all products with weights.

        By their numbers of operations that were a third of it, but those of attention take a third of the time.
        """
        config, shape = self.runner.model.network.config, self.runner.model.shape
        queries = [config.num_attention_heads * each.head_dim for each in shape.per_layer]
        keys = sum(each.kv_heads * each.head_dim for each in shape.per_layer)
        weights = 2 * config.hidden_size * (sum(queries) + keys)
        # Gemma 3n has a size for each layer, and Qwen3.5's mixtures of experts have those of experts alone.
        inner = getattr(config, "intermediate_size", None)
        inner = inner or config.num_experts_per_tok * config.moe_intermediate_size
        inner = sum(inner) if isinstance(inner, list) else inner * config.num_hidden_layers
        weights += 3 * config.hidden_size * inner
        return float(3 * weights / (2 * sum(queries)))
