"""A reader that acts when it is asked is a pod around a pod: pages chosen by the query, with no line in the engine."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from engine.kvcache.exact import Pod
from engine.kvcache.segment import Segment
from engine.offload.host_copy import HostCopies
from engine.runtime.generate import Question
from engine.runtime.runner import Runner
from tests.engine.reading import ask, greedy, read, some_ids


@dataclass(frozen=True)
class PagedPod:
    """An exact pod of which a query meets the `pages` whose mean keys it likes best, as in Quest (arXiv 2406.10774)."""

    inner: Pod
    means: Tensor
    """(L, G, pages of the pod, D)."""
    page_tokens: int
    pages: int
    met: dict[int, list[int]] = field(default_factory=dict)
    """The pages that each layer's last query chose: for the tests."""

    @property
    def num_tokens(self) -> int:
        return self.inner.num_tokens

    @property
    def nbytes(self) -> int:
        return self.inner.nbytes + self.means.nbytes

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def segments(self, layer: int, query: Tensor | None = None) -> list[Segment]:
        (whole,) = self.inner.segments(layer)
        if query is None:
            return [whole]
        means = self.means[layer]
        likes = query.unflatten(0, (len(means), -1)) @ means[:, None].transpose(2, 3)
        chosen = likes.amax((0, 1, 2)).topk(min(self.pages, means.shape[1])).indices
        self.met[layer] = sorted(chosen.tolist())
        slots = torch.cat([torch.arange(self.num_tokens).split(self.page_tokens)[page] for page in self.met[layer]])
        return [replace(whole, keys=whole.keys[:, slots], values=whole.values[:, slots], positions=slots)]

    def select(self, slots: Tensor) -> Pod:
        return self.inner.select(slots)

    def open(self) -> "PagedPod":
        return self


def paged(pod: Pod, pages: int, page_tokens: int = 16) -> PagedPod:
    means = torch.stack([rows.mean(2) for rows in pod.keys.split(page_tokens, 2)], 2)
    return PagedPod(pod, means, page_tokens, pages)


def test_all_pages_are_the_pod_itself(llama_runner: Runner) -> None:
    pod, question = read(llama_runner, some_ids(llama_runner, 150, 1)), some_ids(llama_runner, 20, 2)
    torch.testing.assert_close(
        ask(llama_runner, [paged(pod, 10)], [question])[0], ask(llama_runner, [pod], [question])[0], rtol=0, atol=1e-5
    )
    assert greedy(llama_runner, [paged(pod, 10)], question, 12) == greedy(llama_runner, [pod], question, 12)


def test_only_the_chosen_pages_are_attended(llama_runner: Runner) -> None:
    """A question's attention is on them and nowhere else, and the answer is another one than over everything."""
    pod, question = read(llama_runner, some_ids(llama_runner, 150, 1)), some_ids(llama_runner, 20, 2)
    few = paged(pod, 3)
    for layer in range(4):
        with Question(llama_runner, [few], question, [(layer, 1)]) as asked:
            (mass,) = asked.attention()
        looked_at = {slot // 16 for slot, share in enumerate(mass) if share}
        assert looked_at == set(few.met[layer]) and len(looked_at) == 3
    assert len({tuple(pages) for pages in few.met.values()}) > 1, "every layer chooses for itself"
    assert not torch.allclose(ask(llama_runner, [few], [question])[0], ask(llama_runner, [pod], [question])[0])


def test_every_token_of_an_answer_chooses_anew(llama_runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    pod, question = read(llama_runner, some_ids(llama_runner, 150, 1)), some_ids(llama_runner, 20, 2)
    chosen = []
    segments = PagedPod.segments

    def spy(self: PagedPod, layer: int, query: Tensor | None = None) -> list[Segment]:
        found = segments(self, layer, query)
        chosen.append((layer, tuple(self.met[layer])))
        return found

    monkeypatch.setattr(PagedPod, "segments", spy)
    assert len(greedy(llama_runner, [paged(pod, 2)], question, 8)) == 8
    assert [layer for layer, _ in chosen] == [0, 1, 2, 3] * 8
    assert len({pages for layer, pages in chosen if layer == 3}) > 1


def test_it_is_parked_and_restored_as_any_pod(llama_runner: Runner) -> None:
    few = paged(read(llama_runner, some_ids(llama_runner, 90, 1)), 2)
    copies = HostCopies(few.device)
    again = copies.restore(copies.offload(few))
    question = some_ids(llama_runner, 9, 2)
    assert torch.equal(ask(llama_runner, [again], [question])[0], ask(llama_runner, [few], [question])[0])
