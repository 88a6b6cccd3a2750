"""Tiny random models that see: LLaVA's and Qwen2-VL's shape, with a page of 16 image tokens between words."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from benchmarks.vision.image_tokens import ImageTokens, Reduction, forward, page_tokens

PAGE, TOKENS, WORDS = 4, 16, 4
_IMAGE = 60
_TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Seen:
    """A model, a prompt with a page in it, and what plain transformers says of both: logits (T, V)."""

    network: PreTrainedModel
    embeddings: Tensor
    position_ids: Tensor
    image: ImageTokens
    logits: Tensor
    attentions: tuple[Tensor, ...]

    def read(self, reduce: Reduction, layer: int) -> tuple[Tensor, ImageTokens]:
        """Logits (T', V) where the page is reduced in front of a layer, and what is left of it."""
        decoder = self.network.model.language_model
        with torch.inference_mode():
            hidden, image = forward(decoder, self.embeddings, self.position_ids, self.image, reduce, layer)
            return self.network.lm_head(hidden)[0], image


def llava(seed: int = 0) -> Seen:
    """CLIP, whose [CLS] token looks at 16 patches, in front of Llama."""
    torch.manual_seed(seed)
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        "initializer_range": 0.5,
    }
    text = {"model_type": "llama", **_TEXT}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=_IMAGE, image_seq_length=TOKENS)
    network = LlavaForConditionalGeneration(config).eval()
    network.model.vision_tower.set_attn_implementation("eager")
    ids = torch.tensor([[3, 4, *[_IMAGE] * TOKENS, 5, 6, 7, 8]])
    pixels = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        rows = network.model.get_image_features(pixels).pooler_output[0]
        logits = network(input_ids=ids, pixel_values=pixels).logits[0]
        attentions = network.model.vision_tower(pixels, output_attentions=True).attentions
    positions = torch.arange(ids.shape[1])[None]
    return _seen(network, ids, positions, rows, 2, logits, tuple(each[0] for each in attentions))


def qwen2_vl(seed: int = 0) -> Seen:
    """Rotary positions in three directions, which a page's tokens share in part."""
    torch.manual_seed(seed)
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = Qwen2VLConfig(
        text_config={**_TEXT, "rope_parameters": rope},
        vision_config=vision,
        image_token_id=_IMAGE,
        vision_start_token_id=61,
        vision_end_token_id=62,
        video_token_id=63,
    )
    network = Qwen2VLForConditionalGeneration(config).eval()
    ids = torch.tensor([[3, 61, *[_IMAGE] * TOKENS, 62, 6, 7, 8]])
    facts = {"image_grid_thw": torch.tensor([[1, 8, 8]]), "mm_token_type_ids": (ids == _IMAGE).int()}
    pixels = torch.randn(64, 96)
    with torch.inference_mode():
        rows = network.model.get_image_features(pixels, facts["image_grid_thw"]).pooler_output[0]
        logits = network(input_ids=ids, pixel_values=pixels, **facts).logits[0]
        embedded = network.get_input_embeddings()(ids)
        positions = network.model.compute_3d_position_ids(input_ids=ids, inputs_embeds=embedded, **facts)[-3:]
    return _seen(network, ids, positions, rows, 2, logits, ())


def _seen(
    network: PreTrainedModel,
    ids: Tensor,
    positions: Tensor,
    rows: Tensor,
    first: int,
    logits: Tensor,
    attentions: tuple[Tensor, ...],
) -> Seen:
    with torch.inference_mode():
        embeddings = network.get_input_embeddings()(ids)
        embeddings[0, first : first + TOKENS] = rows
    return Seen(network, embeddings, positions, page_tokens(rows, first, PAGE, PAGE), logits, attentions)


MODELS = {"llava": llava, "qwen2_vl": qwen2_vl}
