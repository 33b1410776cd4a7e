"""From item attributes to a reader: where prompts (data) and the frozen LLM (nn) meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from laserrec.config import LLMConfig, PromptConfig
from laserrec.data.prompts import Template
from laserrec.laser.prefix_first import PrefixFirst
from laserrec.laser.reader import Reader, ReadOut
from laserrec.laser.text_first import TextFirst
from laserrec.llm.backbone import Backbone
from laserrec.system.resources import available_memory
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.encoder import cache_bytes

Attributes = Mapping[str, str]


class ItemTexts:
    """The items' lines as token ids, and the reader that reads them.

    Attributes:
        items: attributes of each item, in index order.
        reader: reads histories of those items, in the prompt order that the settings name.
        item_reader: reads single items; `reader`, unless they have an instruction of their own.
    """

    def __init__(
        self,
        backbone: Backbone,
        prompt: PromptConfig,
        items: Sequence[Attributes],
        read_out: ReadOut = "suffix",
        llm: LLMConfig | None = None,
        cache: type[TextCache] = TextCache,
        memory_gib: float | None = None,
    ) -> None:
        """Take the items; nothing is encoded yet.

        Args:
            backbone: the frozen LLM.
            prompt: what texts are made of, and the order they are read in.
            items: attributes of each item, in index order.
            read_out: which states become the embedding.
            llm: how encoded texts are kept; as by default when None.
            cache: what encodes and keeps texts.
            memory_gib: memory of the device for encoded texts, in GiB; half of what is free when None.
        """
        self.backbone, self.prompt, self.template, self.items = backbone, prompt, Template(prompt), list(items)
        self._lines: dict[tuple[int, int], list[int]] = {}
        self._caches: list[TextCache] = []
        own = prompt.item_instruction
        instructions = [prompt.instruction] if own is None or own == prompt.instruction else [prompt.instruction, own]
        if prompt.order == "text_first":
            kept = llm or LLMConfig()
            memory = available_memory(backbone.device) // 2 if memory_gib is None else int(memory_gib * 2**30)
            lines = self.lines(self.items)
            for instruction in instructions:
                tokens = self.backbone.tokenize(instruction)
                self._caches.append(cache(backbone, tokens, lines, numbers=kept.cache, memory=memory // len(instructions)))
            readers: list[Reader] = [TextFirst(cache, read_out) for cache in self._caches]
        else:
            readers = [PrefixFirst(backbone, backbone.tokenize(text), self.line, read_out) for text in instructions]
        self.reader, self.item_reader = readers[0], readers[-1]

    def lines(self, items: Sequence[Attributes]) -> list[list[int]]:
        """Return the token ids of the items' lines, wherever they stand in a history."""
        rows = self.backbone.tokenize_all([self.template.line(item, 1) for item in items])
        return [self._cut(row) for row in rows]

    def line(self, item: int, number: int) -> list[int]:
        """Return the token ids of an item's line as the `number`-th of a history, from 1."""
        if (item, number) not in self._lines:
            self._lines[item, number] = self._cut(self.backbone.tokenize(self.template.line(self.items[item], number)))
        return self._lines[item, number]

    def extend(self, items: Sequence[Attributes]) -> None:
        """Take further items, which get the next indices; where a text cannot be read, none is taken."""
        lines = self.lines(items)
        self.items += items
        for cache in self._caches:
            cache.extend(lines)

    def shrink(self, count: int) -> None:
        """Forget the last `count` items."""
        kept = len(self.items) - count
        del self.items[kept:]
        self._lines = {key: line for key, line in self._lines.items() if key[0] < kept}
        for cache in self._caches:
            cache.shrink(count)

    def encode_once(self, root: Path, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode every text that is not under `root` yet, and keep it there, for every run with this LLM and instruction.

        Without a text cache (`prefix_first`) there is nothing to do.

        Args:
            root: where encodings are kept.
            told: told how many of the `count` texts are encoded so far.

        Raises:
            CheckpointError: the folder cannot be written to.
        """
        before = 0
        for cache in self._caches:
            cache.open(root, writes=True)
            cache.build(partial(_told_after, told, before))
            before += cache.texts

    def reuse(self, root: Path) -> None:
        """Read the texts' encoding from under `root` where it is there; otherwise a text is encoded when it is first read."""
        for cache in self._caches:
            cache.open(root, writes=False)

    def recall(self, items: Tensor) -> None:
        """Have the texts of items, indices int64 [n], in memory now rather than when they are first read."""
        for cache in self._caches:
            cache.gather(items[:, None], torch.ones(len(items), 1, dtype=torch.bool))

    @property
    def caches(self) -> Sequence[TextCache]:
        """What encodes and holds texts: the first for histories, the last for single items; none in `prefix_first`."""
        return self._caches

    @property
    def count(self) -> int:
        """Number of different texts to encode."""
        return sum(cache.texts for cache in self._caches)

    @property
    def seconds(self) -> float:
        """What encoding the texts took, now or when it was done."""
        return sum(cache.seconds for cache in self._caches)

    @property
    def bytes(self) -> int:
        """Bytes of the texts' encoding on disk."""
        return sum(cache.bytes for cache in self._caches)

    @property
    def missing_bytes(self) -> int:
        """Bytes that `encode_once` would add to the disk."""
        return sum(cache_bytes(cache.missing, cache.decoder, cache.numbers) for cache in self._caches)

    @property
    def token_bytes(self) -> int:
        """Bytes of memory that the keys and values of one token take; 0 where no text is encoded."""
        return max((cache_bytes(1, cache.decoder) for cache in self._caches), default=0)

    @property
    def memory(self) -> int:
        """Bytes of memory that the texts' encoding takes once all were read, or its limit where that is less."""
        return sum(cache.memory for cache in self._caches)

    @property
    def held_bytes(self) -> int:
        """Bytes on disk of the texts that memory has room for: all, or none where some of an encoding must go for others."""
        return sum(cache.bytes for cache in self._caches if cache.memory >= cache.unlimited_memory)

    @property
    def unlimited_memory(self) -> int:
        """Bytes of memory that it would take without a limit."""
        return sum(cache.unlimited_memory for cache in self._caches)

    def _cut(self, tokens: list[int]) -> list[int]:
        # The last token ends the line; a line cut short still ends.
        limit = self.prompt.max_item_tokens
        return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]


def _told_after(told: Callable[[int], None], before: int, done: int) -> None:
    told(before + done)
