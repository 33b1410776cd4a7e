"""A frozen rotary decoder that attends to keys and values computed earlier: the heart of the text-once engine.

transformers' own cache holds keys *after* rotation, bound to one place in one sequence. Here keys are kept *before* rotation, so a text
encoded once can stand anywhere in any sequence: it is rotated to its place when it is read.

Dimensions: B batch, Q new tokens, T context tokens, H width, G key/value heads, R query heads per key/value head, C head width.
Knows nothing of items or virtual tokens.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn
from transformers import PreTrainedModel

from laserrec.errors import ConfigError

ROTARY_TYPES = ("llama", "mistral", "qwen2", "qwen3")


class Context(Protocol):
    """What new tokens attend to beside each other."""

    @property
    def positions(self) -> Tensor:
        """Where each context token stands, int64 [B, T]."""

    @property
    def mask(self) -> Tensor:
        """True where a context token is real, bool [B, T]."""

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys before rotation and values, both [B, T, G, C]."""


class RotaryDecoder:
    """The layers of a frozen transformers decoder with rotary positions, run over a `Context`."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Wrap a model.

        Args:
            model: a frozen decoder without head of one of `ROTARY_TYPES`.

        Raises:
            ConfigError: the model's positions are not rotary, or its attention is windowed.
        """
        kind = model.config.model_type
        if kind not in ROTARY_TYPES:
            raise ConfigError(
                f"prompt.order = 'text_first' needs a decoder with rotary positions ({', '.join(ROTARY_TYPES)}); "
                f"received a {kind!r} model. Use prompt.order = 'prefix_first' with it."
            )
        config = model.config
        # Mistral windows all of its layers or none, and only its configuration says so.
        holders = [config] if kind == "mistral" else [layer.self_attn for layer in model.layers]
        if any(getattr(holder, "sliding_window", None) for holder in holders):
            raise ConfigError(
                "prompt.order = 'text_first' needs full attention; this model's is windowed. Use prompt.order = 'prefix_first' with it."
            )
        # transformers' modules are typed as bare modules; what is used of them is checked by the parity tests.
        self.layers: list[Any] = list(model.layers)
        self.norm: nn.Module = model.norm
        self.rotary: nn.Module = model.rotary_emb
        self.kv_heads: int = config.num_key_value_heads
        self.groups: int = config.num_attention_heads // self.kv_heads
        self.head_width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.dtype: torch.dtype = model.dtype

    def __len__(self) -> int:
        return len(self.layers)

    def forward(
        self, inputs: Tensor, positions: Tensor, context: Context | None = None, collect: list[tuple[Tensor, Tensor]] | None = None
    ) -> Tensor:
        """Run new tokens through all layers; they attend to the context and, causally, to each other.

        Args:
            inputs: embeddings [B, Q, H], padded on the right where rows differ.
            positions: where each new token stands, int64 [B, Q].
            context: what they may all attend to.
            collect: receives each layer's keys before rotation and values of the new tokens, [B, Q, G, C].

        Returns:
            Last-layer states after the final norm, [B, Q, H].
        """
        hidden = inputs.to(self.dtype)
        turn = self._rotation(hidden, positions)
        context_turn = None if context is None else self._rotation(hidden, context.positions)
        mask = self._mask(inputs, context)
        for index, layer in enumerate(self.layers):
            attention = layer.self_attn
            query, key, value = self._project(attention, layer.input_layernorm(hidden))
            if collect is not None:
                collect.append((key, value))
            query, key = _rotate(query, turn), _rotate(key, turn)
            if context is None or context_turn is None:
                mixed = self._attend(query, key, value, mask)
            else:
                context_key, context_value = context.layer(index)
                mixed = self._attend_over(query, key, value, _rotate(context_key, context_turn), context_value, mask)
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.norm(hidden)  # type: ignore[no-any-return]

    def _rotation(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine [B, T, 1, C] of every position."""
        cosine, sine = self.rotary(hidden, positions)
        return cosine.unsqueeze(2), sine.unsqueeze(2)

    def _project(self, attention: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        """Return queries [B, Q, G·R, C], keys and values [B, Q, G, C], before rotation."""
        shape = (*normed.shape[:2], -1, self.head_width)
        query = attention.q_proj(normed).view(shape)
        key = attention.k_proj(normed).view(shape)
        value = attention.v_proj(normed).view(shape)
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
        return query, key, value

    def _mask(self, inputs: Tensor, context: Context | None) -> Tensor:
        """Return who may attend to whom, bool [B or 1, 1, R·Q, T + Q]: everybody to the context, causally to each other."""
        length = inputs.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=inputs.device).tril().expand(1, -1, -1)
        if context is not None:
            seen = context.mask[:, None, :].expand(-1, length, -1)
            causal = torch.cat([seen, causal.expand(len(seen), -1, -1)], dim=2)
        return causal.repeat(1, self.groups, 1).unsqueeze(1)

    def _fold(self, query: Tensor) -> Tensor:
        """Lay the query heads of one key/value head end to end, so that keys are never repeated: [B, G, R·Q, C]."""
        rows, length = query.shape[:2]
        return query.view(rows, length, self.kv_heads, self.groups, self.head_width).permute(0, 2, 3, 1, 4).flatten(2, 3)

    def _unfold(self, mixed: Tensor, length: int) -> Tensor:
        """Undo `_fold`: [B, Q, G·R·C]."""
        mixed = mixed.view(len(mixed), self.kv_heads, self.groups, length, self.head_width)
        return mixed.permute(0, 3, 1, 2, 4).reshape(len(mixed), length, -1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend to the new tokens alone: [B, Q, G·R·C]."""
        mixed = F.scaled_dot_product_attention(self._fold(query), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask)
        return self._unfold(mixed, query.shape[1])

    def _attend_over(self, query: Tensor, key: Tensor, value: Tensor, context_key: Tensor, context_value: Tensor, mask: Tensor) -> Tensor:
        """Attend to the context and the new tokens in one softmax: [B, Q, G·R·C].

        Two products instead of one over joined keys: the context then never enters the backward pass.
        """
        folded = self._fold(query) * self.head_width**-0.5
        far = folded @ context_key.permute(0, 2, 3, 1)
        near = folded @ key.permute(0, 2, 3, 1)
        scores = torch.cat([far, near], dim=-1).masked_fill(~mask, -torch.inf)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
        far, near = weights.split([context_key.shape[1], key.shape[1]], dim=-1)
        mixed = far @ context_value.transpose(1, 2) + near @ value.transpose(1, 2)
        return self._unfold(mixed, query.shape[1])


def _rotate(states: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn states [B, T, heads, C] to their positions."""
    cosine, sine = turn
    half = states.shape[-1] // 2
    cosine, sine = cosine[..., :half], sine[..., :half]
    first, second = states.split(half, dim=-1)
    return torch.cat([torch.addcmul(first * cosine, second, sine, value=-1), torch.addcmul(second * cosine, first, sine)], dim=-1)
