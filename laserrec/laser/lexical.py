"""Score items by the words that they share with those of a history: cosines of TF-IDF vectors over the LLM's own tokens.

    l(u, i) = log(1 + Σ_h DECAY^age(h) · cos(t_h, t_i) / FLOOR),  0 for the history's own items

t is (1 + ln times) · ln((1 + N) / (1 + texts with the token)) for each token of a text in lower case. Nothing is trained. The language
model's vectors say what texts mean, these say which words they share: part numbers, sizes, brands (docs/log.md).

Dimensions: N items, V tokens of the vocabulary, B batch, S history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from laserrec.layers.neighbours import fading, without_own

DECAY = 0.7
"""Weight of an item relative to the next, more recent one; .85 is .01 nats worse on Scientific's validation (docs/log.md)."""
FLOOR = 0.1
"""Cosine that counts as none."""


@dataclass(frozen=True, eq=False)
class Lexical:
    """TF-IDF vectors of a list of texts, one after the other; they never change.

    Attributes:
        idf: of each token, float [V]: that of the first catalogue, so that scores of its items stay when others come.
        tokens: the distinct tokens of all texts, int64.
        values: of each of them in its text's vector, whose length is 1, float.
        starts: where each text begins, and where the last one ends, int64 [N + 1].
    """

    idf: Tensor
    tokens: Tensor
    values: Tensor
    starts: Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], vocabulary: int, device: torch.device, idf: Tensor | None = None) -> Lexical:
        """Make the vectors of texts.

        Args:
            texts: token ids of each text.
            vocabulary: V.
            device: where the vectors lie.
            idf: of another list of texts; that of these when None.
        """
        rows = torch.repeat_interleave(torch.arange(len(texts)), torch.tensor([len(text) for text in texts], dtype=torch.int64))
        codes = rows * vocabulary + torch.tensor(list(chain.from_iterable(texts)), dtype=torch.int64)
        pairs, times = codes.unique(return_counts=True)
        row, token = pairs // vocabulary, pairs % vocabulary
        if idf is None:
            idf = ((1 + len(texts)) / (1 + token.bincount(minlength=vocabulary))).log()
        values = (1 + times.log()) * idf.cpu()[token]
        length = torch.zeros(len(texts)).index_add_(0, row, values**2).sqrt()
        values = values / length[row].clamp(min=torch.finfo(torch.float32).tiny)
        starts = torch.searchsorted(row, torch.arange(len(texts) + 1))
        return cls(*(part.to(device) for part in (idf, token, values, starts)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def extended(self, texts: Sequence[Sequence[int]]) -> Lexical:
        """Return these vectors with those of further texts behind them."""
        more = Lexical.of(texts, len(self.idf), self.idf.device, self.idf)
        return replace(
            self,
            tokens=torch.cat([self.tokens, more.tokens]),
            values=torch.cat([self.values, more.values]),
            starts=torch.cat([self.starts, self.starts[-1] + more.starts[1:]]),
        )

    def take(self, order: Tensor) -> Lexical:
        """Return the vectors of those texts that `order` names by index, int64 [n]."""
        order = order.to(self.starts.device)
        first, counts = self.starts[order], self.starts.diff()[order]
        ends = counts.cumsum(0)
        places = torch.arange(int(counts.sum()), device=order.device) + (first - ends + counts).repeat_interleave(counts)
        return replace(self, tokens=self.tokens[places], values=self.values[places], starts=torch.cat([ends.new_zeros(1), ends]))

    def query(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of the vectors of each history's last items, recent ones counting more, float [V, B].

        Args:
            items: indices of these texts, int64 [B, S]; those beyond them count for nothing.
            mask: bool [B, S].
        """
        mask = mask & (items < len(self))
        last, shares = fading(torch.where(mask, items, 0), mask, DECAY)
        history = self.take(last.flatten())
        counts = history.starts.diff()
        row = torch.arange(len(items), device=items.device).repeat_interleave(last.shape[1]).repeat_interleave(counts)
        total = self.values.new_zeros(len(self.idf), len(items))
        return total.index_put_((history.tokens, row), history.values * shares.flatten().repeat_interleave(counts), accumulate=True)

    def scores(self, query: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item, float [B, N], 0 where no word is shared.

        Args:
            query: of each history, float [V, B].
            items: the histories' items, which get 0, int64 [B, S]; those beyond the list are texts that cannot be recommended.
            mask: bool [B, S].
        """
        if not len(self.tokens):
            return query.new_zeros(query.shape[1], len(self))
        near = embedding_bag(self.tokens, query, self.starts, mode="sum", per_sample_weights=self.values, include_last_offset=True)
        scores = near.T.contiguous().clamp_(min=0)  # a token in every text has the value 0, or by rounding less
        return without_own(scores, items, mask & (items < len(self))).div_(FLOOR).log1p_()
