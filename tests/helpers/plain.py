"""What `text_first` means, written as plainly as possible: one token and one head at a time, in float64, sharing no code with laserrec.

A block's tokens see the instruction and what stands before them in their own block, at the places they had when the block was read right
after the instruction. Virtual tokens see everything, laid end to end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


def read(model: PreTrainedModel, instruction: Sequence[int], items: Sequence[Sequence[int]], virtual: Tensor) -> Tensor:
    """Return the last-layer states float64 [L + 1, H] of the virtual tokens [L + 1, H] of one history."""
    places, sight = _lay_out(len(instruction), [len(item) for item in items], len(virtual))
    tokens = torch.tensor([*instruction, *(token for item in items for token in item)], dtype=torch.int64)
    hidden = torch.cat([model.get_input_embeddings().weight[tokens], virtual]).double()
    for layer in model.layers:
        hidden = hidden + _attention(model, layer.self_attn, _norm(hidden, layer.input_layernorm), places, sight)
        hidden = hidden + _feed_forward(layer.mlp, _norm(hidden, layer.post_attention_layernorm))
    return _norm(hidden, model.norm)[len(tokens) :]


Sight = list[tuple[int, int]]


def _lay_out(head: int, lengths: Sequence[int], new: int) -> tuple[list[int], list[Sight]]:
    """Return where each token stands as a query, and what it sees: (token, place) pairs."""
    front = [(place, place) for place in range(head)]
    places, sight = list(range(head)), [front[: place + 1] for place in range(head)]
    everything = list(front)
    for length in lengths:
        start = len(places)
        for inside in range(length):
            places.append(head + inside)
            sight.append(front + [(start + before, head + before) for before in range(inside + 1)])
        everything += [(start + inside, len(everything) + inside) for inside in range(length)]
    for _ in range(new):
        everything = [*everything, (len(places), len(everything))]
        places.append(everything[-1][1])
        sight.append(everything)
    return places, sight


def _attention(model: PreTrainedModel, attention: nn.Module, normed: Tensor, places: list[int], sight: list[Sight]) -> Tensor:
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shared = config.num_attention_heads // config.num_key_value_heads
    rows = []
    for token, seen in enumerate(sight):
        heads = []
        for head in range(config.num_attention_heads):
            query = _turn(_head(attention, "q", normed[token], head, width), places[token], config)
            keys = torch.stack([_turn(_head(attention, "k", normed[other], head // shared, width), place, config) for other, place in seen])
            values = torch.stack([_head(attention, "v", normed[other], head // shared, width) for other, _ in seen])
            heads.append(((keys @ query) / math.sqrt(width)).softmax(0) @ values)
        rows.append(_linear(attention.o_proj, torch.cat(heads)))
    return torch.stack(rows)


def _head(attention: nn.Module, part: str, state: Tensor, head: int, width: int) -> Tensor:
    projected = _linear(getattr(attention, f"{part}_proj"), state)[head * width : (head + 1) * width]
    norm = getattr(attention, f"{part}_norm", None)
    return projected if norm is None else _norm(projected, norm)


def _turn(state: Tensor, place: int, config: object) -> Tensor:
    """Turn each pair of coordinates (c, c + half) by place · theta^(-2c / width)."""
    theta, half = config.rope_parameters["rope_theta"], len(state) // 2  # type: ignore[attr-defined]
    angle = place * torch.tensor([theta ** (-2 * c / len(state)) for c in range(half)], dtype=torch.float64)
    first, second = state[:half], state[half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()])


def _norm(states: Tensor, norm: nn.Module) -> Tensor:
    return states / (states.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight.double()


def _linear(linear: nn.Linear, states: Tensor) -> Tensor:
    out = states @ linear.weight.double().T
    return out if linear.bias is None else out + linear.bias.double()


def _feed_forward(mlp: nn.Module, states: Tensor) -> Tensor:
    gate = _linear(mlp.gate_proj, states)
    return _linear(mlp.down_proj, gate * gate.sigmoid() * _linear(mlp.up_proj, states))
