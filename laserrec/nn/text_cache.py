"""Text-once: every text's keys and values at every layer, computed a single time.

With the prompt order [text; P; s] no text token attends to a trainable token, so what the frozen LLM makes of a text is a constant. A
*block* is one text: the instruction, or one item's line read after the instruction. Blocks do not see each other; the virtual tokens
see the instruction and all blocks of a history, standing one after the other in time order.

Memory is 2 · layers · G · C numbers a token: 23 KB a token in bfloat16 for SmolLM2-135M.

Dimensions: B batch, S blocks of a history, T context tokens, G key/value heads, C head width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from laserrec.checkpoint import read_tensors, write_tensors
from laserrec.errors import CheckpointError
from laserrec.nn.backbone import Backbone
from laserrec.nn.rotary import RotaryDecoder

ENCODE_TOKENS = 4096


@dataclass(frozen=True)
class Gathered:
    """The blocks of a batch of histories, in place: a `Context`.

    Attributes:
        store: keys and values of the blocks encoded first, [layers, tokens, 2, G, C].
        later: those encoded since, whose indices follow on the store's.
        index: which token stands where, int64 [B, T].
        positions: int64 [B, T].
        mask: bool [B, T].
    """

    store: Tensor
    later: Tensor
    index: Tensor
    positions: Tensor
    mask: Tensor

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a layer's keys before rotation and values, both [B, T, G, C]."""
        first, flat = self.store.shape[1], self.index.flatten()
        both = self.store[index].index_select(0, flat.clamp(max=first - 1) if self.later.shape[1] else flat)
        if self.later.shape[1]:
            since = flat >= first
            both[since] = self.later[index][flat[since] - first]
        both = both.view(*self.index.shape, *self.store.shape[2:])
        return both[:, :, 0], both[:, :, 1]

    @property
    def ends(self) -> Tensor:
        """Number of context tokens of each row, where the next token stands: int64 [B]."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class _Alone:
    """One block as the context of a batch of rows: the instruction, while items are encoded after it."""

    keys_values: Tensor
    rows: int

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.keys_values.shape[1]).expand(self.rows, -1)

    @property
    def mask(self) -> Tensor:
        return torch.ones(self.rows, self.keys_values.shape[1], dtype=torch.bool)

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        both = self.keys_values[index].expand(self.rows, -1, -1, -1, -1)
        return both[:, :, 0], both[:, :, 1]


class TextCache:
    """Keys and values of the instruction and of the items asked for so far; items are encoded when first required.

    Attributes:
        seconds: what encoding took, in this process or in the one that saved it.
    """

    def __init__(self, backbone: Backbone, instruction: Sequence[int], items: Sequence[Sequence[int]]) -> None:
        """Take the texts; nothing is encoded yet.

        Args:
            backbone: the frozen LLM.
            instruction: token ids that stand before every history; may be empty.
            items: token ids of each item's line, in index order.
        """
        self.backbone = backbone
        self.decoder = RotaryDecoder(backbone.model)
        self.tokens = [torch.tensor(row, dtype=torch.int64) for row in items]
        self.instruction_tokens = list(instruction)
        self.instruction = self._encode_instruction(torch.tensor(instruction, dtype=torch.int64))
        self.store = self.instruction
        self._later, self._used = self.instruction[:, :0], 0
        self.seconds = 0.0
        self.starts = torch.full((len(items),), -1, dtype=torch.int64)
        self.lengths = torch.tensor([len(row) for row in items], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def extend(self, items: Sequence[Sequence[int]]) -> None:
        """Take further items' token ids; they get the next indices."""
        self.tokens += [torch.tensor(row, dtype=torch.int64) for row in items]
        self.starts = torch.cat([self.starts, torch.full((len(items),), -1, dtype=torch.int64)])
        self.lengths = torch.cat([self.lengths, torch.tensor([len(row) for row in items], dtype=torch.int64)])

    def shrink(self, count: int) -> None:
        """Forget the last `count` items; the room of those encoded last is used again."""
        kept = len(self.tokens) - count
        del self.tokens[kept:]
        self.starts, self.lengths = self.starts[:kept], self.lengths[:kept]
        end = int((self.starts + self.lengths)[self.starts >= 0].max()) if bool((self.starts >= 0).any()) else 0
        self._used = max(end - self.store.shape[1], 0)

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of all items, encoded or not yet."""
        tokens = self.instruction.shape[1] + int(self.lengths.sum())
        return tokens * len(self.decoder) * 2 * self.decoder.kv_heads * self.decoder.head_width * self.decoder.dtype.itemsize

    @property
    def complete(self) -> bool:
        """Whether every item is encoded."""
        return not bool(((self.starts < 0) & (self.lengths > 0)).any())

    @torch.no_grad()
    def require(self, items: Tensor, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode those of the items (indices int64 [n], any order, repeats allowed) that are not encoded yet.

        `told` is told how many are encoded so far.
        """
        missing = items.unique()
        missing = missing[(self.starts[missing] < 0) & (self.lengths[missing] > 0)]
        if not len(missing):
            return
        began = time.monotonic()
        missing = missing[self.lengths[missing].argsort(stable=True)]
        lengths = self.lengths[missing]
        target, offset = self._room(int(lengths.sum()))
        places = lengths.cumsum(0) - lengths + offset
        done = 0
        while done < len(missing):
            # Sorted by length, so a batch's last row is its longest and its padding is small.
            padded = torch.arange(1, len(missing) - done + 1) * lengths[done:]
            count = max(1, int((padded <= ENCODE_TOKENS).sum()))
            batch = missing[done : done + count]
            self._encode_items(batch, target, places[done : done + count])
            done += len(batch)
            told(done)
        self._take(target, int(lengths.sum()))
        self.starts[missing] = places + (0 if target is self.store else self.store.shape[1])
        self.seconds += time.monotonic() - began

    def _room(self, count: int) -> tuple[Tensor, int]:
        """Return a tensor with room for `count` more tokens, and where the room begins.

        The first fill is the store itself, to size; what comes later goes beside it, with room to grow, so that one new item never copies
        a store of gigabytes.
        """
        shape = (self.store.shape[0], -1, *self.store.shape[2:])
        head = self.instruction.shape[1]
        if not bool((self.starts >= 0).any()):
            room = self.store.new_empty(shape[0], head + count, *shape[2:])
            room[:, :head] = self.instruction
            return room, head
        needed = self._used + count
        if needed <= self._later.shape[1]:
            return self._later, self._used
        room = self.store.new_empty(shape[0], max(needed, self._later.shape[1] * 5 // 4), *shape[2:])
        room[:, : self._used] = self._later[:, : self._used]
        return room, self._used

    def _take(self, target: Tensor, count: int) -> None:
        """Keep what was encoded into the room: only now, so that a failed encoding changes nothing."""
        if not bool((self.starts >= 0).any()):
            self.store = target
            self._later, self._used = target[:, :0], 0
        else:
            self._later, self._used = target, self._used + count

    def count_tokens(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the number of the items' tokens in each history, int64 [B]; arguments as in `gather`."""
        return torch.where(mask, self.lengths[items], 0).sum(1)

    def gather(self, items: Tensor, mask: Tensor) -> Gathered:
        """Lay the instruction and the histories' blocks one after the other.

        Args:
            items: indices int64 [B, S], padded on the right.
            mask: True where an item is real, bool [B, S].
        """
        self.require(items[mask])
        head = self.instruction.shape[1]
        lengths = torch.where(mask, self.lengths[items], 0)
        ends = lengths.cumsum(1) + head
        totals = ends[:, -1] if items.shape[1] else torch.full((len(items),), head)
        places = torch.arange(int(totals.max()) if len(totals) else head).expand(len(items), -1).contiguous()
        block = torch.searchsorted(ends, places, right=True).clamp_(max=max(items.shape[1] - 1, 0))
        real = places < totals[:, None]
        if items.shape[1]:
            starts = torch.where(mask, self.starts[items], 0)
            inside = places - (ends - lengths).gather(1, block)
            index = torch.where(places < head, places, starts.gather(1, block) + inside)
        else:
            index = places
        return Gathered(self.store, self._later[:, : self._used], torch.where(real, index, 0), torch.where(real, places, 0), real)

    def save(self, path: Path) -> None:
        """Write all encoded blocks to one safetensors file."""
        whole = torch.cat([self.store, self._later[:, : self._used]], dim=1) if self._used else self.store
        write_tensors(path, {"store": whole, "starts": self.starts, "lengths": self.lengths}, {"seconds": self.seconds})

    def load(self, path: Path) -> None:
        """Take encoded blocks from a file of `save`.

        Raises:
            CheckpointError: the file cannot be read or holds other texts' blocks.
        """
        tensors, state = read_tensors(path)
        store, starts, lengths = (tensors.get(name) for name in ("store", "starts", "lengths"))
        if store is None or starts is None or lengths is None or not torch.equal(lengths, self.lengths):
            raise CheckpointError(f"{path} holds the blocks of other texts; delete it and they are encoded again.")
        if store.shape[0] != self.store.shape[0] or store.shape[2:] != self.store.shape[2:] or store.dtype != self.store.dtype:
            raise CheckpointError(f"{path} holds the blocks of another language model; delete it and they are encoded again.")
        self.store, self.starts, self.seconds = store, starts, float(state.get("seconds", 0.0))
        self._later, self._used = store[:, :0], 0

    @torch.no_grad()
    def _encode_instruction(self, tokens: Tensor) -> Tensor:
        collected: list[tuple[Tensor, Tensor]] = []
        if not len(tokens):
            return torch.empty(len(self.decoder), 0, 2, self.decoder.kv_heads, self.decoder.head_width, dtype=self.decoder.dtype)
        self.decoder.forward(self.backbone.embed(tokens)[None], torch.arange(len(tokens))[None], collect=collected)
        return torch.stack([torch.stack([key[0], value[0]], dim=1) for key, value in collected])

    def _encode_items(self, batch: Tensor, store: Tensor, starts: Tensor) -> None:
        """Encode items after the instruction and put their keys and values in their places of the store."""
        rows = [self.tokens[int(item)] for item in batch]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = self.lengths[batch]
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        head = self.instruction.shape[1]
        positions = (head + torch.arange(tokens.shape[1])).expand(len(rows), -1)
        collected: list[tuple[Tensor, Tensor]] = []
        context = _Alone(self.instruction, len(rows)) if head else None
        self.decoder.forward(self.backbone.embed(tokens), positions, context, collected)
        places = (starts[:, None] + torch.arange(tokens.shape[1]))[real]
        for index, (key, value) in enumerate(collected):
            store[index, places] = torch.stack([key[real], value[real]], dim=1)
