"""Count the floating-point operations of a frozen decoder from its shapes.

A product of matrices [m, k] and [k, n] counts 2·m·k·n. Counted are the linear layers and the two products of attention; norms, rotations,
softmax and gates are not. Weights are frozen, so a linear layer's backward is one product, as its forward is, and attention's is
two for each of the forward's; keys and values that nothing trained has touched need no gradient, which saves half of that.

Dimensions: T tokens, H width, G key/value heads, C head width. Knows nothing of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder with a gated feed-forward part, as Llama, Mistral and Qwen have.

    Attributes:
        layers: number of layers.
        width: H.
        heads: query heads.
        kv_heads: G.
        head_width: C.
        inner: width of the feed-forward part.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int

    @classmethod
    def of(cls, config: Any) -> Shape:  # noqa: ANN401 - a transformers configuration
        """Read the sizes from a model's configuration."""
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            inner=config.intermediate_size,
        )

    @property
    def keys_values(self) -> int:
        """Weights of one layer's key and value projections."""
        return 2 * self.width * self.kv_heads * self.head_width

    @property
    def matrices(self) -> int:
        """Weights of one layer's seven matrices."""
        return 2 * self.width * self.heads * self.head_width + self.keys_values + 3 * self.width * self.inner

    @property
    def cached(self) -> int:
        """Numbers that one token leaves in a cache of keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_width


@dataclass(frozen=True)
class Work:
    """Floating-point operations.

    Attributes:
        forward: of the forward pass.
        backward: of the gradient's way back to the inputs.
    """

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward)

    def __mul__(self, times: int) -> Work:
        return Work(self.forward * times, self.backward * times)


def causal_pairs(length: int) -> int:
    """Return how many (query, key) pairs there are when each of `length` tokens sees itself and those before it."""
    return length * (length + 1) // 2


def through(shape: Shape, new: int, *, context: int = 0, pairs: int | None = None, last_only: bool = False) -> Work:
    """Count one row of new tokens through all layers.

    Args:
        shape: the decoder.
        new: tokens that go through the layers.
        context: tokens whose keys and values are there already, need no gradient, and are seen by every new token.
        pairs: (query, key) pairs among the new tokens; causal when unset.
        last_only: only the last token's state is asked for, so the last layer needs the others' keys and values alone.
    """
    near = causal_pairs(new) if pairs is None else pairs
    whole = _layer(shape, queries=new, keys=new, near=near, far=context * new)
    if not last_only:
        return whole * shape.layers
    return whole * (shape.layers - 1) + _layer(shape, queries=1, keys=new, near=new, far=context)


def encode(shape: Shape, new: int, *, context: int = 0) -> Work:
    """Count what it takes to get one row's keys and values in every layer: of the last layer nothing but their projections."""
    whole = _layer(shape, queries=new, keys=new, near=causal_pairs(new), far=context * new)
    return Work(whole.forward * (shape.layers - 1) + 2 * shape.keys_values * new, 0)


def _layer(shape: Shape, *, queries: int, keys: int, near: int, far: int) -> Work:
    linear = 2 * (shape.keys_values * keys + (shape.matrices - shape.keys_values) * queries)
    pair = 4 * shape.heads * shape.head_width
    return Work(linear + pair * (near + far), linear + pair * (2 * near + far))
