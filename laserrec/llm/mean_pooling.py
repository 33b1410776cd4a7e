"""Encode a text as one vector: the mean of its tokens' last-layer states in the frozen LLM, without any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laserrec.llm.backbone import Backbone

TOKENS = 4096
"""Tokens a forward pass, padding included."""


@torch.no_grad()
def mean_states(backbone: Backbone, texts: Sequence[str], *, max_tokens: int, progress: Callable[[int], None] = lambda _: None) -> Tensor:
    """Encode texts one by one.

    Args:
        backbone: the frozen LLM.
        texts: any; an empty one gets zeros.
        max_tokens: a text is cut to this many tokens.
        progress: called with the number of encoded texts.

    Returns:
        float32 [texts, H], on the CPU.
    """
    rows = backbone.tokenize_all(texts, limit=max_tokens)
    # Neighbours in length share a batch, so little of it is padding.
    order = sorted((index for index, row in enumerate(rows) if row), key=lambda index: len(rows[index]))
    vectors = torch.zeros(len(rows), backbone.width)
    while order:
        count = max(1, TOKENS // len(rows[order[-1]]))
        batch, order = order[-count:], order[:-count]
        vectors[batch] = _mean(backbone, [rows[index] for index in batch])
        progress(len(rows) - len(order))
    return vectors


def _mean(backbone: Backbone, rows: Sequence[Sequence[int]]) -> Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.zeros(mask.shape, dtype=torch.int64)
    tokens[mask] = torch.tensor([token for row in rows for token in row])
    states = backbone.forward(backbone.embed(tokens)).float()
    return (states * mask[..., None].to(states.device)).sum(1).cpu() / lengths[:, None]
