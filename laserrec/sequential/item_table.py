"""Item vectors made from texts, alone or beside a vector of each id's own, for a sequential recommender to read and to score with.

The table is N × D whatever it is made from, so a trained one can be fixed to plain embeddings: what a text-aware recommender learnt
is then used at the price of an id-based one.

Dimensions: N catalogue, F width of the texts' vectors, D width of the recommender, G experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

START = 0.1
"""Deviation of what texts give before training; an id's own vector starts at a fifth of it, so texts speak first."""


class TextTable(nn.Module):
    """A catalogue's vectors from its texts.

    With several experts, each maps a text by itself and a softmax over them mixes what they give (UniSRec, Hou et al., KDD 2022, §3.1).
    """

    texts: Tensor

    def __init__(self, texts: Tensor, width: int, *, ids: bool, experts: int = 1) -> None:
        """Build the table with fresh weights.

        Args:
            texts: whitened vectors of the items' texts, float [N, F].
            width: D.
            ids: add a trained vector of each item's own.
            experts: G, linear maps from a text to a vector.
        """
        super().__init__()
        count, inputs = texts.shape
        self.experts = experts
        self.register_buffer("texts", texts)
        self.maps = nn.Parameter(torch.randn(inputs, experts * width) * START * (experts / max(inputs, 1)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(experts * width))
        self.gate = nn.Parameter(torch.zeros(inputs, experts)) if experts > 1 else None
        self.ids = nn.Parameter(torch.randn(count, width) * START / 5) if ids else None

    @property
    def shared(self) -> bool:
        """Whether nothing is an item's own, so that one nobody was trained on has as good a vector as any."""
        return self.ids is None

    @property
    def weight(self) -> Tensor:
        """The table, float [N, D]."""
        mapped: Tensor = torch.addmm(self.bias, self.texts, self.maps)
        if self.gate is not None:
            share = (self.texts @ self.gate).softmax(-1)
            mapped = (mapped.unflatten(1, (self.experts, -1)) * share[..., None]).sum(1)
        return mapped if self.ids is None else mapped + self.ids


class FeatureTable(nn.Module):
    """A catalogue's vectors from several features of each item, weighed by an attention over them (FDSA, Zhang et al., IJCAI 2019, §3.2).

    An item's features are its text, through one linear map, and the values of its attributes, each with a trained vector. Their weights are
    softmax(v · feature), v trained; an attribute that is not known gets none.
    """

    attributes: Tensor

    def __init__(self, texts: Tensor, attributes: Tensor, width: int) -> None:
        """Build the table with fresh weights.

        Args:
            texts: whitened vectors of the items' texts, float [N, F].
            attributes: values as numbers from 1, 0 where one is not known, int64 [N, A] with A ≥ 1.
            width: D.
        """
        super().__init__()
        self.text = TextTable(texts, width, ids=False)
        self.register_buffer("attributes", attributes)
        counts = [int(column.max()) for column in attributes.T]
        self.values = nn.ParameterList([nn.Parameter(torch.randn(count, width) * START) for count in counts])
        self.attention = nn.Parameter(torch.zeros(width))

    @property
    def weight(self) -> Tensor:
        """The table, float [N, D]."""
        values = [table[(column - 1).clamp(min=0)] for table, column in zip(self.values, self.attributes.T, strict=True)]
        features = torch.stack([self.text.weight, *values], dim=1)
        known = torch.cat([torch.ones_like(self.attributes[:, :1], dtype=torch.bool), self.attributes > 0], dim=1)
        shares = (features @ self.attention).masked_fill(~known, -torch.inf).softmax(1)
        return (shares[..., None] * features).sum(1)


def whiten(vectors: Tensor) -> Tensor:
    """Centre vectors [N, F] and make their directions uncorrelated and equally strong, which spreads a language model's narrow cone.

    Directions in which the items do not differ are left out, so fewer than F columns may come back.
    """
    centred = vectors.double() - vectors.double().mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / max(len(vectors), 1))
    kept = values > values.max().clamp(min=0) * 1e-6
    whitened: Tensor = centred @ (directions[:, kept] / values[kept].sqrt())
    return whitened.float()
