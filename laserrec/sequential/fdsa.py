"""FDSA: causal self-attention over items and, in a stream of its own, over their features (Zhang et al., IJCAI 2019).

An item's features are its text, as one vector, and its attributes, such as brand and category, weighed by an attention as in the paper; a
text alone always gets the whole weight. Each stream has positions of its own. Departures: those of `causal.py` and `sasrec.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laserrec.layers.blocks import initialise
from laserrec.sequential.item_table import FeatureTable, TextTable
from laserrec.sequential.sasrec import SASRec


class FDSA(SASRec):
    """Encodes a history twice, as items and as their features, and maps both states to the one that scores item vectors.

    Attributes:
        feature_stream: encodes the features; its item vectors are the items' features, float [N, D], and score nothing.
    """

    def __init__(
        self,
        *,
        catalogue_size: int,
        width: int,
        blocks: int,
        heads: int,
        max_history: int,
        dropout: float,
        seen_penalty: bool = False,
        features: Tensor | None = None,
        attributes: Tensor | None = None,
    ) -> None:
        """Build the model with fresh weights.

        Args:
            catalogue_size: N, items that can be scored.
            width: width of embeddings and states in both streams, a multiple of `heads`.
            blocks: transformer blocks of each stream.
            heads: attention heads.
            max_history: positions with an embedding of their own.
            dropout: of embeddings, attention and feed-forward.
            seen_penalty: train a δ that is taken from the scores of items in the history.
            features: whitened vectors of the items' texts, float [N, F], which one linear map takes to `width`; without, the model is built
                as it is once its features are fixed, with a table of them.
            attributes: values of the items' attributes as numbers from 1, 0 where one is not known, int64 [N, A]; the text alone without.
        """
        super().__init__(
            catalogue_size=catalogue_size,
            width=width,
            blocks=blocks,
            heads=heads,
            max_history=max_history,
            dropout=dropout,
            seen_penalty=seen_penalty,
        )
        self.feature_stream = SASRec(
            catalogue_size=catalogue_size, width=width, blocks=blocks, heads=heads, max_history=max_history, dropout=dropout
        )
        if features is not None:
            # Copied: item vectors may be made from the same texts, and tensors that share memory cannot be kept in one file.
            text = features.clone()
            self.feature_stream.items = (
                TextTable(text, width, ids=False)
                if attributes is None or not attributes.shape[1]
                else FeatureTable(text, attributes, width)
            )
        self.output = nn.Linear(2 * width, width)
        initialise(self.output)

    def fix_items(self) -> None:
        """Replace item vectors and features made from texts by embeddings equal to them. See the base class."""
        super().fix_items()
        self.feature_stream.fix_items()

    def _states(self, items: Tensor, mask: Tensor, table: Tensor) -> Tensor:
        both = torch.cat([super()._states(items, mask, table), self.feature_stream.states(items, mask)], dim=-1)
        states: Tensor = self.output(both) * mask[..., None]
        return states
