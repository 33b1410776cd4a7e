"""What is kept of a text: its keys and values at every layer, how they are computed, and how large they are.

A *block* is one text, encoded: rows [layers · tokens, 2, G, C], layer by layer, each row the key (before rotation) and the value of one
token at one layer. Blocks do not see each other, so a text's block is the same wherever the text stands.

Dimensions: B rows of a batch, T context tokens, G key/value heads, C head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.llm.backbone import Backbone
from laserrec.llm.buckets import CachedContext
from laserrec.llm.decoder import RotaryDecoder

ENCODE_TOKENS = 4096
Numbers = Literal["exact", "int8"]
SCALE = torch.bfloat16


def cache_bytes(tokens: int, decoder: RotaryDecoder, numbers: Numbers = "exact") -> int:
    """Return the bytes of the keys and values of `tokens` tokens on disk: 2 · layers · G · (bytes of C numbers) each.

    C numbers take C · 2 bytes in bfloat16, C · 4 in float32, and C + 2 in int8, with their scale. In memory they always have the decoder's
    type for them.
    """
    width = decoder.head_width + SCALE.itemsize if numbers == "int8" else decoder.head_width * decoder.storage_dtype.itemsize
    return tokens * len(decoder) * 2 * decoder.kv_heads * width


def pack(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round to int8, with one scale for each token, head, and key or value.

    Args:
        rows: [rows, 2, G, C].

    Returns:
        int8 [rows, 2, G, C] and bfloat16 scales [rows, 2, G]. A number is off by at most half a scale, 1/127 of the largest beside it.
    """
    scales = (rows.abs().amax(-1).float() / 127).to(SCALE)
    steps = torch.where(scales > 0, scales, 1).float()[..., None]
    return (rows.float() / steps).round_().clamp_(-127, 127).to(torch.int8), scales


def unpack(packed: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `pack`, up to its rounding."""
    return (packed.float() * scales.float()[..., None]).to(dtype)


def batches(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Cut texts, sorted by length, into batches of at most `ENCODE_TOKENS` tokens with their padding, at least one text each."""
    done = 0
    while done < len(lengths):
        # Sorted, so a batch's last row is its longest and its padding is small.
        padded = np.arange(1, min(ENCODE_TOKENS, len(lengths) - done) + 1) * lengths[done : done + ENCODE_TOKENS]
        count = max(1, int((padded <= ENCODE_TOKENS).sum()))
        yield slice(done, done + count)
        done += count


class Encoder:
    """Computes blocks with the frozen LLM."""

    def __init__(self, backbone: Backbone) -> None:
        """Wrap the LLM, which must be one that `RotaryDecoder` knows."""
        self.backbone, self.decoder = backbone, RotaryDecoder(backbone.model, storage_dtype=backbone.storage_dtype, fused=backbone.compiled)

    @property
    def row(self) -> tuple[int, int, int]:
        """Shape of a row: 2, G, C."""
        return 2, self.decoder.kv_heads, self.decoder.head_width

    @torch.no_grad()
    def encode(self, texts: Sequence[Tensor], start: int = 0, context: CachedContext | None = None) -> Tensor:
        """Read texts side by side.

        Args:
            texts: token ids int64 of each, at least one token in all.
            start: where each text's first token stands.
            context: what all of them are read after.

        Returns:
            Their blocks end to end, [layers · tokens, 2, G, C], on the LLM's device.
        """
        lengths = torch.tensor([len(text) for text in texts]).to(self.backbone.device)
        tokens = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True).to(lengths.device)
        inside = torch.arange(tokens.shape[1], device=lengths.device).expand(len(texts), -1)
        real = inside < lengths[:, None]
        collected: list[tuple[Tensor, Tensor]] = []
        self.decoder.forward(self.backbone.embed(tokens), start + inside, context, collected)
        rows = torch.empty(len(self.decoder) * sum(map(len, texts)), *self.row, dtype=self.decoder.storage_dtype, device=lengths.device)
        first = (len(self.decoder) * (lengths.cumsum(0) - lengths))[:, None] + inside
        for layer, (key, value) in enumerate(collected):
            rows[(first + layer * lengths[:, None])[real]] = torch.stack([key[real], value[real]], dim=1).to(rows.dtype)
        return rows
