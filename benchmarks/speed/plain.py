"""Compute the same embeddings as a good user of transformers would: the plain route.

`AutoModel`, `inputs_embeds`, batches sorted by length and padded on the right under an attention mask, SDPA, no gradient on weights; every
prompt goes through the model whole, at every step. Both prompt orders, [P; text; s] and [text; P; s].

Dimensions: B rows, T tokens, L prefix tokens, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel

from laserrec.system.devices import CPU

Order = Literal["text_first", "prefix_first"]
Text = Sequence[Sequence[int]]
"""A prompt's text as its items' token ids."""


class PlainRoute:
    """A frozen transformers model that reads whole prompts."""

    def __init__(self, path: str, *, dtype: str, layers: int | None, batch_size: int, device: torch.device = CPU) -> None:
        """Load a model of its own, untouched by whatever the engine does to its weights.

        Args:
            path: folder or Hugging Face id.
            dtype: of its weights.
            layers: decoder layers to keep; all when None.
            batch_size: prompts a forward pass.
            device: where it reads.
        """
        changes = {} if layers is None else {"num_hidden_layers": layers}
        self.model = AutoModel.from_pretrained(path, dtype=getattr(torch, dtype), attn_implementation="sdpa", **changes)
        self.model.eval().requires_grad_(False).to(device)
        self.batch_size = batch_size
        self.device = device

    def read(self, texts: Sequence[Text], virtual: Tensor, order: Order, *, apart: bool = False) -> Tensor:
        """Return the state at each prompt's suffix, float32 [B, H].

        Args:
            texts: each prompt's items.
            virtual: prefix and suffix tokens [B, L + 1, H].
            order: where the text stands.
            apart: in `text_first`, items do not see each other; plain causal attention otherwise.
        """
        by_length = torch.tensor([sum(map(len, text)) for text in texts]).argsort(stable=True).to(self.device)
        parts = [self._read([texts[i] for i in rows.tolist()], virtual[rows], order, apart) for rows in by_length.split(self.batch_size)]
        return torch.cat(parts)[by_length.argsort()]

    def encode(self, texts: Sequence[Sequence[int]]) -> None:
        """Run texts through the model, forward alone and without virtual tokens."""
        by_length = sorted(texts, key=len)
        with torch.no_grad():
            for at in range(0, len(by_length), self.batch_size):
                rows = [torch.tensor(text) for text in by_length[at : at + self.batch_size]]
                real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
                tokens = pad_sequence(rows, batch_first=True).to(self.device)
                self.model(input_ids=tokens, attention_mask=real.to(self.device), use_cache=False)

    def _read(self, texts: Sequence[Text], virtual: Tensor, order: Order, apart: bool) -> Tensor:
        embed = self.model.get_input_embeddings()
        rows = []
        for text, tokens in zip(texts, virtual.to(self.model.dtype), strict=True):
            words = embed(torch.tensor([token for item in text for token in item], dtype=torch.int64).to(self.device))
            rows.append(torch.cat([words, tokens] if order == "text_first" else [tokens[:-1], words, tokens[-1:]]))
        lengths = torch.tensor([len(row) for row in rows]).to(self.device)
        inputs = pad_sequence(rows, batch_first=True)
        real = torch.arange(inputs.shape[1], device=self.device) < lengths[:, None]
        mask = block_mask(texts, inputs.shape[1]).to(self.device) if apart else real
        states = self.model(inputs_embeds=inputs, attention_mask=mask, use_cache=False).last_hidden_state
        found: Tensor = states[torch.arange(len(rows), device=self.device), lengths - 1].float()
        return found


def block_mask(texts: Sequence[Text], length: int) -> Tensor:
    """Return who may attend to whom, bool [B, 1, length, length]: causally, items' tokens within their own item only.

    What stands after the text, the virtual tokens, sees everything before it.
    """
    block = torch.full((len(texts), length), -1)
    for row, text in enumerate(texts):
        numbers = [number for number, item in enumerate(text) for _ in item]
        block[row, : len(numbers)] = torch.tensor(numbers)
    same = block[:, :, None] == block[:, None, :]
    free = (block < 0)[:, :, None]
    return ((same | free) & torch.ones(length, length, dtype=torch.bool).tril()).unsqueeze(1)
