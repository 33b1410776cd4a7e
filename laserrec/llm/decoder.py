"""A frozen rotary decoder that attends to keys and values computed earlier: the heart of the text-once engine.

transformers' own cache holds keys *after* rotation, bound to one place in one sequence. Here keys are kept *before* rotation, so a text
encoded once can stand anywhere in any sequence: it is rotated to its place when it is read.

Rows of similar length form a group. All groups go through the linear layers as one matrix without padding between them; where only one
token's state is asked for, the last layer computes that token alone.

Dimensions: B rows of a group, Q new tokens, T context tokens, H width, G key/value heads, R query heads per key/value head, C head width,
M all tokens of all groups. Knows nothing of items or virtual tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn
from transformers import PreTrainedModel

from laserrec.errors import ConfigError
from laserrec.llm.attention import attend
from laserrec.llm.buckets import Context, LengthBucket
from laserrec.llm.kernels import Kernels, RotaryAngles
from laserrec.llm.support import unsupported_reason


@dataclass(frozen=True)
class TokenBatch:
    """Rows of one length that go through the decoder together.

    Attributes:
        inputs: embeddings [B, Q, H], padded on the right where rows differ.
        positions: where each new token stands, int64 [B, Q].
        context: what they may all attend to.
    """

    inputs: Tensor
    positions: Tensor
    context: Context | None = None


class RotaryDecoder:
    """The layers of a frozen transformers decoder with rotary positions, run over a `Context`."""

    def __init__(self, model: PreTrainedModel, *, storage_dtype: torch.dtype | None = None, fused: bool = False) -> None:
        """Wrap a model.

        Args:
            model: a frozen decoder without head of one of `ROTARY_TYPES`.
            storage_dtype: type in which keys and values of a context are kept; the model's when None.
            fused: compile the elementwise kernels.

        Raises:
            ConfigError: the model's positions are not rotary or depend on a sequence's length, or its attention is windowed.
        """
        refusal = unsupported_reason(model)
        if refusal:
            raise ConfigError(f"prompt.order = 'text_first' {refusal} Use prompt.order = 'prefix_first' with it, if it is a decoder.")
        config = model.config
        # transformers' modules are typed as bare modules; what is used of them is checked by the parity tests.
        self.layers: list[Any] = list(model.layers)
        self.norm: Any = model.norm
        self.rotary: nn.Module = model.rotary_emb
        self.kv_heads: int = config.num_key_value_heads
        self.head_width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.dtype: torch.dtype = model.dtype
        self.storage_dtype = storage_dtype or self.dtype
        self.kernels = Kernels(fused=fused)

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
        return self.run([TokenBatch(inputs, positions, context)], collect)[0]

    def run(self, rows: Sequence[TokenBatch], collect: list[tuple[Tensor, Tensor]] | None = None) -> list[Tensor]:
        """Run groups of rows through all layers: last-layer states after the final norm, [B, Q, H] a group.

        Args:
            rows: the groups.
            collect: as in `forward`; only with a single group.
        """
        groups = self._groups(rows)
        hidden = self._flat(rows)
        for index in range(len(self)):
            hidden = self._layer(hidden, index, groups, None if collect is None else (collect, rows[0].inputs.shape[:2]))
        hidden = self._normed(hidden, self.norm)
        return [hidden[group.start : group.end].view_as(part.inputs) for group, part in zip(groups, rows, strict=True)]

    def read(self, rows: Sequence[TokenBatch], wanted: Sequence[Tensor]) -> list[Tensor]:
        """Run groups of rows through all layers and return one token's state of each row.

        Args:
            rows: the groups.
            wanted: which of its new tokens each row is read at, int64 [B] a group.

        Returns:
            Last-layer states after the final norm, [B, H] a group.
        """
        groups = self._groups(rows)
        hidden = self._flat(rows)
        for index in range(len(self) - 1):
            hidden = self._layer(hidden, index, groups)
        states = self._normed(self._last_layer(hidden, groups, wanted), self.norm)
        return list(states.split([group.rows for group in groups]))

    def _flat(self, rows: Sequence[TokenBatch]) -> Tensor:
        return torch.cat([part.inputs.to(self.dtype).flatten(0, 1) for part in rows])

    def _groups(self, rows: Sequence[TokenBatch]) -> list[LengthBucket]:
        groups = []
        start = 0
        for part in rows:
            context = part.context
            groups.append(
                LengthBucket(
                    start,
                    rows=part.inputs.shape[0],
                    length=part.inputs.shape[1],
                    angles=self._angles(part.inputs, part.positions),
                    context=context,
                    context_angles=None if context is None else self._angles(part.inputs, context.positions),
                    padded=context is not None and context.padded,
                )
            )
            start = groups[-1].end
        return groups

    def _angles(self, inputs: Tensor, positions: Tensor) -> RotaryAngles:
        cosine, sine = self.rotary(inputs.to(self.dtype), positions)
        half = self.head_width // 2
        return cosine[..., :half].contiguous(), sine[..., :half].contiguous()

    def _layer(
        self,
        hidden: Tensor,
        index: int,
        groups: Sequence[LengthBucket],
        collect: tuple[list[tuple[Tensor, Tensor]], torch.Size] | None = None,
    ) -> Tensor:
        """Run hidden states [M, H] through one layer."""
        layer = self.layers[index]
        attention = layer.self_attn
        normed = self._normed(hidden, layer.input_layernorm)
        key = self._keys(attention, normed)
        value = attention.v_proj(normed)
        if collect is not None:
            collected, shape = collect
            collected.append((key.view(*shape, -1, self.head_width), value.view(*shape, -1, self.head_width)))
        mixed = attend(self._queries(attention, normed), key, value, groups, index, self.head_width, self.kernels)
        return self._feed_forward(hidden + attention.o_proj(mixed), layer)

    def _last_layer(self, hidden: Tensor, groups: Sequence[LengthBucket], wanted: Sequence[Tensor]) -> Tensor:
        """Run hidden states [M, H] through the last layer, for one token of each row."""
        layer = self.layers[-1]
        attention = layer.self_attn
        normed = self._normed(hidden, layer.input_layernorm)
        key = self._keys(attention, normed)
        value = attention.v_proj(normed)
        places = [
            torch.arange(group.rows, device=hidden.device) * group.length + group.start + place
            for group, place in zip(groups, wanted, strict=True)
        ]
        query = self._queries(attention, normed[torch.cat(places)])
        mixed = []
        start = 0
        for group, place in zip(groups, wanted, strict=True):
            mixed.append(self._attend_once(query[start : start + group.rows], key, value, group, place))
            start += group.rows
        return self._feed_forward(hidden[torch.cat(places)] + attention.o_proj(torch.cat(mixed)), layer)

    def _attend_once(self, query: Tensor, key: Tensor, value: Tensor, group: LengthBucket, place: Tensor) -> Tensor:
        """Attend with one query a row [B, G·R·C], at token `place` of it: [B, G·R·C]."""
        each = torch.arange(group.rows, device=place.device)
        cosine, sine = (part.expand(group.rows, -1, -1)[each, place][:, None] for part in group.angles)
        query = self.kernels.rotate(query.view(group.rows, 1, -1, self.head_width), cosine, sine)
        keys, values = group.keys_values(len(self) - 1, group.take(key, self.head_width), group.take(value, self.head_width), self.kernels)
        keys, values = (part.view(group.rows, self.kv_heads, -1, self.head_width) for part in (keys, values))
        seen = torch.arange(group.length, device=place.device) <= place[:, None]
        if group.context is not None:
            seen = torch.cat([group.context.mask, seen], dim=1)
        folded = query.view(group.rows, self.kv_heads, -1, self.head_width)
        return F.scaled_dot_product_attention(folded, keys, values, attn_mask=seen[:, None, None, :]).reshape(group.rows, -1)

    def _normed(self, states: Tensor, norm: Any) -> Tensor:  # noqa: ANN401
        return self.kernels.norm(states, norm.weight, norm.variance_epsilon)

    def _queries(self, attention: Any, normed: Tensor) -> Tensor:  # noqa: ANN401
        query: Tensor = attention.q_proj(normed)
        return self._head_normed(query, attention.q_norm) if hasattr(attention, "q_norm") else query

    def _keys(self, attention: Any, normed: Tensor) -> Tensor:  # noqa: ANN401
        key: Tensor = attention.k_proj(normed)
        return self._head_normed(key, attention.k_norm) if hasattr(attention, "k_norm") else key

    def _head_normed(self, states: Tensor, norm: Any) -> Tensor:  # noqa: ANN401
        return self._normed(states.view(len(states), -1, self.head_width), norm).flatten(1)

    def _feed_forward(self, hidden: Tensor, layer: Any) -> Tensor:  # noqa: ANN401
        normed = self._normed(hidden, layer.post_attention_layernorm)
        mlp = layer.mlp
        product: Tensor = mlp.down_proj(self.kernels.swiglu(mlp.gate_proj(normed), mlp.up_proj(normed)))
        return hidden + product
