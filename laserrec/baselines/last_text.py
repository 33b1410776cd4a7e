"""The items whose texts are nearest to the last item's: what a frozen language model knows without any training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from laserrec.nn.backbone import Backbone

ENCODE_TOKENS = 4096
"""Tokens a forward pass, padding included."""


class LastItemText:
    """Scores an item by the cosine of its text's vector with that of the last item of the history."""

    name = "Last-item text"
    trained_parameters = 0

    def __init__(self, vectors: Tensor) -> None:
        """Take the items' vectors, float [N, H]."""
        self.directions = normalize(vectors.float(), dim=1)

    @classmethod
    def encode(cls, backbone: Backbone, texts: Sequence[str], *, max_tokens: int = 48) -> LastItemText:
        """Encode every item's text once: the mean of its tokens' last-layer states.

        Args:
            backbone: the frozen LLM.
            texts: each item's text, in index order; an empty one is like nothing else.
            max_tokens: a text is cut to this many tokens.
        """
        rows = backbone.tokenize_all(texts, limit=max_tokens)
        # Neighbours in length share a batch, so little of it is padding.
        order = sorted((index for index, row in enumerate(rows) if row), key=lambda index: len(rows[index]))
        vectors = torch.zeros(len(rows), backbone.width)
        while order:
            count = max(1, ENCODE_TOKENS // len(rows[order[-1]]))
            batch, order = order[-count:], order[:-count]
            vectors[batch] = _mean_states(backbone, [rows[index] for index in batch])
        return cls(vectors)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return cosines with the last item of each history; see `Baseline`."""
        last = items.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        return self.directions[last] @ self.directions.T


@torch.no_grad()
def _mean_states(backbone: Backbone, rows: Sequence[Sequence[int]]) -> Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    tokens = torch.zeros(mask.shape, dtype=torch.int64)
    tokens[mask] = torch.tensor([token for row in rows for token in row])
    states = backbone.forward(backbone.embed(tokens)).float()
    return (states * mask[..., None]).sum(1) / lengths[:, None]
