"""Score items by the words that they share with those of a history: cosines of TF-IDF vectors over the LLM's own tokens.

    l(u, i) = log(1 + Σ_h DECAY^age(h) · cos(t_h, t_i) / FLOOR),  0 for the history's own items

t is (1 + ln times) · ln((1 + N) / (1 + texts with the token)) for each token of a text in lower case. Nothing is trained. The language
model's vectors say what texts mean, these say which words they share: part numbers, sizes, brands (docs/log.md).

Dimensions: N items, P stored texts, V tokens of the vocabulary, B batch, S history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from laserrec.layers.neighbours import fading, without_own
from laserrec.layers.rows import SPARE, Column, moved, spans

DECAY = 0.7
"""Weight of an item relative to the next, more recent one; .85 is .01 nats worse on Scientific's validation (docs/log.md)."""
FLOOR = 0.1
"""Cosine that counts as none."""


@dataclass(frozen=True, eq=False)
class Lexical:
    """TF-IDF vectors of a list of texts, one after the other; they never change.

    Attributes:
        idf: of each token, float [V]: that of the first catalogue, so that scores of its items stay when others come.
        tokens: the distinct tokens of all stored texts, int64.
        values: of each of them in its text's vector, whose length is 1, float.
        starts: where each stored text begins, and where the last one ends, int64 [P + 1].
        place: which stored text is which, int64 [N]; each the one of its own index when None.
    """

    idf: Tensor
    tokens: Column
    values: Column
    starts: Column
    place: Tensor | None = None

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
        return cls(idf.to(device), Column.of(token.to(device)), Column.of(values.to(device)), Column.of(starts.to(device)))

    def __len__(self) -> int:
        return len(self.starts) - 1 if self.place is None else len(self.place)

    def with_texts(self, texts: Sequence[Sequence[int]], rows: Tensor, count: int) -> Lexical:
        """Return the vectors of `count` texts, of which new and changed ones, at indices int64 [n], are these."""
        stored = len(self.starts) - 1
        if stored > (1 + SPARE) * len(self):  # much is out of use
            tokens, values, counts = self.gathered(torch.arange(len(self), device=self.idf.device))
            alone = Lexical(self.idf, Column.of(tokens), Column.of(values), Column.of(pad(counts.cumsum(0), (1, 0))))
            return alone.with_texts(texts, rows, count)
        more = Lexical.of(texts, len(self.idf), self.idf.device, self.idf)
        return Lexical(
            self.idf,
            self.tokens.followed_by(more.tokens.seen),
            self.values.followed_by(more.values.seen),
            self.starts.followed_by(self.starts.seen[-1] + more.starts.seen[1:]),
            moved(self.place, stored, rows.to(self.idf.device), count),
        )

    def with_room(self) -> Lexical:
        """Return these vectors in a memory that has room for more."""
        return replace(self, tokens=self.tokens.with_room(), values=self.values.with_room(), starts=self.starts.with_room())

    def take(self, order: Tensor) -> Lexical:
        """Return the vectors of those texts that `order` names by index, int64 [n]."""
        order = order.to(self.idf.device)
        return replace(self, place=order if self.place is None else self.place[order])

    def gathered(self, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens of texts, one after the other, their values, and how many each text has, int64 [n]."""
        stored = texts if self.place is None else self.place[texts]
        first = self.starts.seen[stored]
        counts = self.starts.seen[stored + 1] - first
        places = spans(first, counts)
        return self.tokens.seen[places], self.values.seen[places], counts

    def query(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of the vectors of each history's last items, recent ones counting more, float [V, B].

        Args:
            items: indices of these texts, int64 [B, S]; those beyond them count for nothing.
            mask: bool [B, S].
        """
        mask = mask & (items < len(self))
        last, shares = fading(torch.where(mask, items, 0), mask, DECAY)
        tokens, values, counts = self.gathered(last.flatten())
        row = torch.arange(len(items), device=items.device).repeat_interleave(last.shape[1]).repeat_interleave(counts)
        total = values.new_zeros(len(self.idf), len(items))
        return total.index_put_((tokens, row), values * shares.flatten().repeat_interleave(counts), accumulate=True)

    def scores(self, query: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item, float [B, N], 0 where no word is shared.

        Args:
            query: of each history, float [V, B].
            items: the histories' items, which get 0, int64 [B, S]; those beyond the list are texts that cannot be recommended.
            mask: bool [B, S].
        """
        if not len(self.tokens):
            return query.new_zeros(query.shape[1], len(self))
        tokens, values, starts = self.tokens.seen, self.values.seen, self.starts.seen
        near = embedding_bag(tokens, query, starts, mode="sum", per_sample_weights=values, include_last_offset=True)
        near = near if self.place is None else near[self.place]
        scores = near.T.contiguous().clamp_(min=0)  # a token in every text has the value 0, or by rounding less
        return without_own(scores, items, mask & (items < len(self))).div_(FLOOR).log1p_()
