"""VTC-CLS: [CLS] attention by its equation, equality where all stays, and positions where less does."""

from functools import partial

import pytest
import torch

from benchmarks.vision.vtc_cls import scores, vtc_cls
from tests.benchmarks.vision.models import MODELS, TOKENS, WORDS, llava


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layer", (0, 3))
def test_all_tokens_are_the_model_itself(name: str, layer: int) -> None:
    seen = MODELS[name]()
    logits, image = seen.read(partial(vtc_cls, worth=torch.rand(TOKENS), count=TOKENS), layer)
    torch.testing.assert_close(logits, seen.logits, rtol=1e-4, atol=1e-4)
    assert image.places.tolist() == [*range(2, 2 + TOKENS)]
    assert image.boxes[5].tolist() == [0.25, 0.25, 0.5, 0.5]


def test_it_keeps_what_cls_looks_at_and_drops_the_rest() -> None:
    seen = llava(1)
    worth = scores(seen.attentions, 1)
    by_hand = [
        sum(float(seen.attentions[layer][head, 0, 1 + token]) for layer in (1, 2) for head in (0, 1)) / 2
        for token in range(TOKENS)
    ]
    assert worth.tolist() == pytest.approx(by_hand)
    logits, image = seen.read(partial(vtc_cls, worth=worth, count=5), 0)
    stay = sorted(sorted(range(TOKENS), key=lambda token: -by_hand[token])[:5])
    assert image.places.tolist() == [2 + token for token in stay]
    assert image.boxes[:, 0].tolist() == [token % 4 / 4 for token in stay]
    # As transformers gives it for the same tokens, each at the position it had.
    all_places = [0, 1, *image.places.tolist(), *range(2 + TOKENS, 2 + TOKENS + WORDS)]
    with torch.inference_mode():
        plain = seen.network.model.language_model(
            inputs_embeds=seen.embeddings[:, all_places], position_ids=torch.tensor([all_places])
        )
        expected = seen.network.lm_head(plain.last_hidden_state)[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
