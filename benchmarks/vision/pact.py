"""Prune image tokens that matter little, and merge those that are alike (PACT, arXiv 2504.08966).

Token j is worth |h_j| times the mean over heads of softmax_j(k_j q / sqrt(d)), q the mean query of all; the best share
stay. Of these, in the order of their density r_i = sum over j of exp(-d_ij / c), d the cosine distance of keys, each
becomes a centre unless one is within c, and joins the nearest otherwise; a pruned token joins one within 1.5 c. A
cluster is the mean of its tokens, at its centre's place, and log its size is added to the logits of its key.
Defaults: layer 4, share 0.55, c = 0.21 (LLaVA-OneVision-7B, Qwen2-VL-7B). Here keys are those of the layer ahead,
without rotary positions, heads side by side; what the published text leaves open of q and r is as said above.
"""

import torch

from benchmarks.vision.image_tokens import ImageTokens, Look


def pact(image: ImageTokens, look: Look, share: float = 0.55, cutoff: float = 0.21, joins: float = 1.5) -> ImageTokens:
    """Clusters of the tokens that matter, at least one."""
    queries, keys = (each.float() for each in look())
    logits = queries.mean(1, keepdim=True) @ keys.repeat_interleave(len(queries) // len(keys), 0).mT
    worth = image.rows.float().norm(dim=1) * (logits * keys.shape[2] ** -0.5).softmax(-1).mean((0, 1))
    best = worth.argsort(descending=True, stable=True)[: max(1, round(share * len(worth)))]
    flat = torch.nn.functional.normalize(keys.transpose(0, 1).flatten(1), dim=1)
    distance = 1 - flat @ flat.T
    density = (-distance[best][:, best] / cutoff).exp().sum(1) if cutoff else torch.ones(len(best))
    centres: list[int] = []
    for token in best[density.argsort(descending=True, stable=True)].tolist():
        if not centres or distance[token, centres].min() > cutoff:
            centres.append(token)
    centre = torch.tensor(sorted(centres), device=keys.device)
    near, into = distance[:, centre].min(1)
    joined = near <= joins * cutoff
    joined[best] = True
    # A centre is its own, though another may be as near by rounding.
    into[centre], joined[centre] = torch.arange(len(centre), device=keys.device), True
    total = torch.zeros(len(centre), image.rows.shape[1], device=keys.device)
    total.index_add_(0, into[joined], (image.rows.float() * image.sizes[:, None])[joined])
    sizes = torch.zeros(len(centre), device=keys.device).index_add_(0, into[joined], image.sizes[joined])
    rows = (total / sizes[:, None]).to(image.rows.dtype)
    return ImageTokens(rows, image.places[centre], image.boxes[centre], sizes)
