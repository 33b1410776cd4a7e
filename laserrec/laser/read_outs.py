"""Read-outs: which states of the language model become a history's embedding. A new one is an entry of `READ_OUTS` and a setting.

Dimensions: B rows of a group, T tokens, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from laserrec.llm.decoder import RotaryDecoder, TokenBatch

ReadOutName = Literal["suffix", "mean", "last"]


@dataclass(frozen=True)
class ReadOut:
    """How states become embeddings.

    Attributes:
        pool: turns states [B, T, H], of which each row's first ones are real (int64 [B]), into embeddings [B, H]. None for the state of the
            last real token: the LLM's last layer then computes that state alone.
        trained_suffix: whether the token that is read last is trained; otherwise it is the LLM's own end of a sequence.
    """

    pool: Callable[[Tensor, Tensor], Tensor] | None = None
    trained_suffix: bool = True

    def read(self, decoder: RotaryDecoder, groups: Sequence[TokenBatch], lengths: Sequence[Tensor]) -> list[Tensor]:
        """Return embeddings float32 [B, H] of each group, whose rows have int64 [B] real tokens."""
        if self.pool is None:
            return [states.float() for states in decoder.read(groups, [length - 1 for length in lengths])]
        return [self.of(states, length) for states, length in zip(decoder.run(groups), lengths, strict=True)]

    def of(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings float32 [B, H] of the states [B, T, H] of all tokens."""
        if self.pool is None:
            return states[torch.arange(len(states), device=states.device), lengths - 1].float()
        return self.pool(states.float(), lengths)


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    real = (torch.arange(states.shape[1], device=states.device) < lengths[:, None]).unsqueeze(-1)
    return (states * real).sum(1) / lengths[:, None]


READ_OUTS: Mapping[ReadOutName, ReadOut] = {
    "suffix": ReadOut(),
    "mean": ReadOut(pool=_mean),
    "last": ReadOut(trained_suffix=False),
}
