"""The trained tokens around the text: prefix and suffix of Bi-Tuning (paper §3.1.2).

Started from words, an untrained prefix and suffix already make the frozen LLM summarise (docs/explanation/method.md); started at
random, as in the paper, they know nothing at first.

Dimensions: L prefix tokens, H width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laserrec.llm.backbone import Backbone


class VirtualTokens(nn.Module):
    """L prefix tokens and one suffix token in the LLM's embedding space, trained in float32."""

    def __init__(self, prefix: Tensor, suffix: Tensor) -> None:
        """Start from the given embeddings.

        Args:
            prefix: [L, H].
            suffix: [H].
        """
        super().__init__()
        self.prefix = nn.Parameter(prefix.detach().float().clone())
        self.suffix = nn.Parameter(suffix.detach().float().clone())

    @classmethod
    def from_words(cls, backbone: Backbone, length: int, words: str) -> VirtualTokens:
        """Start from the embeddings of words: the last token is the suffix, those before it end the prefix.

        Where the words have fewer than L + 1 tokens the first prefix tokens are noise; where they have more, the first words are left out.
        """
        tokens = backbone.tokenize(words)[-(length + 1) :]
        start = cls.random(backbone, length)
        if tokens:
            embedded = backbone.embed(torch.tensor(tokens)).float().cpu()
            with torch.no_grad():
                start.suffix.copy_(embedded[-1])
                start.prefix[length - len(tokens) + 1 :] = embedded[:-1]
        return start

    @classmethod
    def random(cls, backbone: Backbone, length: int) -> VirtualTokens:
        """Start from noise with the deviation of the LLM's own embeddings."""
        deviation = backbone.embeddings.weight.cpu().float().std()  # there, so that its last bit is the same for all
        return cls(torch.randn(length, backbone.width) * deviation, torch.randn(backbone.width) * deviation)
