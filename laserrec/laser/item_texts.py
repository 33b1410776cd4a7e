"""Items' texts as the language model reads them: where prompts and the frozen LLM meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from laserrec.config import LLMConfig, PromptConfig
from laserrec.data.prompts import Template
from laserrec.data.values import attribute_order
from laserrec.laser.prefix_first import PrefixFirst
from laserrec.laser.read_outs import ReadOutName
from laserrec.laser.reader import Reader
from laserrec.laser.text_first import TextFirst
from laserrec.llm.backbone import Backbone
from laserrec.system.resources import available_memory
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.encoder import cache_bytes
from laserrec.text_cache.store import OpenStore

Attributes = Mapping[str, str]


class ItemTexts:
    """The texts of a list of items, and what reads them; it never changes, and any number of threads may read.

    Attributes:
        items: attributes of each item, in index order.
        reader: reads histories of those items, in the prompt order that the settings name.
        item_reader: reads single items; `reader`, unless they have an instruction of their own.
        caches: what encodes and holds texts: the first for histories, the last for single items; none in `prefix_first`.
    """

    reader: Reader
    item_reader: Reader

    def __init__(
        self,
        backbone: Backbone,
        prompt: PromptConfig,
        items: Sequence[Attributes],
        read_out: ReadOutName = "suffix",
        llm: LLMConfig | None = None,
        columns: Sequence[str] | None = None,
        memory_gib: float | None = None,
    ) -> None:
        """Take the items; nothing is encoded yet.

        Args:
            backbone: the frozen LLM.
            prompt: what texts are made of, and the order they are read in.
            items: attributes of each item, in index order.
            read_out: which states become the embedding.
            llm: how encoded texts are kept; as by default when None.
            columns: the catalogue's attributes in its order, which texts show; those of the items when None.
            memory_gib: memory of the device for encoded texts, in GiB; half of what is free when None.
        """
        self.backbone, self.prompt = backbone, prompt
        self.template = Template(prompt, tuple(attribute_order(items) if columns is None else columns))
        self._read_out: ReadOutName = read_out
        own = prompt.item_instruction
        instructions = [prompt.instruction] if own is None or own == prompt.instruction else [prompt.instruction, own]
        self._instructions = [backbone.tokenize(instruction) for instruction in instructions]
        caches = []
        if prompt.order == "text_first":
            kept, lines = llm or LLMConfig(), self.lines(items)
            memory = available_memory(backbone.device) // 2 if memory_gib is None else int(memory_gib * 2**30)
            caches = [
                TextCache(backbone, tokens, lines, numbers=kept.cache, memory=memory // len(instructions)) for tokens in self._instructions
            ]
        self._set(items, caches)

    def _set(self, items: Sequence[Attributes], caches: Sequence[TextCache]) -> None:
        """Stand for some items, and make their readers."""
        self.items, self.caches = list(items), list(caches)
        self._lines: dict[tuple[int, int], list[int]] = {}
        readers: list[Reader] = [TextFirst(cache, self._read_out) for cache in caches]
        if not readers:
            readers = [PrefixFirst(self.backbone, tokens, self.line, self._read_out) for tokens in self._instructions]
        self.reader, self.item_reader = readers[0], readers[-1]

    def extended(self, items: Sequence[Attributes]) -> Self:
        """Return these texts with those of further items, which get the next indices; what is encoded stays so."""
        lines = self.lines(items) if self.caches else []
        return self._of([*self.items, *items], [cache.extended(lines) for cache in self.caches])

    def of(self, items: Sequence[Attributes]) -> Self:
        """Return the texts of other items, which share what is encoded."""
        return self.take(torch.empty(0, dtype=torch.int64)).extended(items)

    def take(self, order: Tensor) -> Self:
        """Return the texts of those items that `order` names by index, int64 [n]."""
        return self._of([self.items[item] for item in order.tolist()], [cache.take(order) for cache in self.caches])

    def _of(self, items: Sequence[Attributes], caches: Sequence[TextCache]) -> Self:
        other = copy(self)
        other._set(items, caches)
        return other

    def lines(self, items: Sequence[Attributes]) -> list[list[int]]:
        """Return the token ids of the items' lines, wherever they stand in a history."""
        rows = self.backbone.tokenize_all([self._text(item, 1) for item in items])
        return [self._cut(row) for row in rows]

    def words(self, items: Sequence[Attributes]) -> list[list[int]]:
        """Return the token ids of the items' texts in lower case, by which `Lexical` compares them."""
        return self.backbone.tokenize_all([self._text(item, 1).lower() for item in items])

    def line(self, item: int, number: int) -> list[int]:
        """Return the token ids of an item's line as the `number`-th of a history, from 1."""
        if (item, number) not in self._lines:
            self._lines[item, number] = self._cut(self.backbone.tokenize(self._text(self.items[item], number)))
        return self._lines[item, number]

    def encode_once(self, root: Path, log: Callable[[int], None] = lambda _: None) -> None:
        """Encode every text that is not under `root` yet, and keep it there, for every run with this LLM and instruction.

        Without a text cache (`prefix_first`) there is nothing to do.

        Args:
            root: where encodings are kept.
            log: gets the number of the `count` texts that are encoded so far.

        Raises:
            CheckpointError: the folder cannot be written to.
        """
        before = 0
        self.open(DiskStore.under(root), writes=True)
        for cache in self.caches:
            cache.build(partial(_log_after, log, before))
            before += cache.texts

    def reuse(self, root: Path) -> None:
        """Read the texts' encoding from under `root` where it is there; otherwise a text is encoded when it is first read."""
        self.open(DiskStore.under(root), writes=False)

    def open(self, store: OpenStore, *, writes: bool) -> None:
        """Read the texts' encoding from another kind of store from now on; arguments as in `TextCache.open`."""
        for cache in self.caches:
            cache.open(store, writes=writes)

    def recall(self, items: Tensor) -> None:
        """Have the texts of items, indices int64 [n], in memory now rather than when they are first read."""
        for cache in self.caches:
            cache.gather(items[:, None], torch.ones(len(items), 1, dtype=torch.bool))

    @property
    def count(self) -> int:
        """Number of different texts to encode."""
        return sum(cache.texts for cache in self.caches)

    @property
    def seconds(self) -> float:
        """What encoding the texts took, now or when it was done."""
        return sum(cache.seconds for cache in self.caches)

    @property
    def bytes(self) -> int:
        """Bytes of the texts' encoding on disk."""
        return sum(cache.bytes for cache in self.caches)

    @property
    def missing_bytes(self) -> int:
        """Bytes that `encode_once` would add to the disk."""
        return sum(cache_bytes(cache.missing, cache.decoder, cache.numbers) for cache in self.caches)

    @property
    def token_bytes(self) -> int:
        """Bytes of memory that the keys and values of one token take; 0 where no text is encoded."""
        return max((cache_bytes(1, cache.decoder) for cache in self.caches), default=0)

    @property
    def memory(self) -> int:
        """Bytes of memory that the texts' encoding takes once all were read, or its limit where that is less."""
        return sum(cache.memory for cache in self.caches)

    @property
    def held_bytes(self) -> int:
        """Bytes on disk of the texts that memory has room for: all, or none where some of an encoding must go for others."""
        return sum(cache.bytes for cache in self.caches if cache.memory >= cache.unlimited_memory)

    @property
    def unlimited_memory(self) -> int:
        """Bytes of memory that it would take without a limit."""
        return sum(cache.unlimited_memory for cache in self.caches)

    def _text(self, item: Attributes, number: int) -> str:
        """Return an item's line, of which no attribute is longer than the tokens that are read can show."""
        letters = self.backbone.letters(self.prompt.max_item_tokens)
        return self.template.line({name: text[:letters] for name, text in item.items()}, number)

    def _cut(self, tokens: list[int]) -> list[int]:
        # The last token ends the line; a line cut short still ends.
        limit = self.prompt.max_item_tokens
        return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]


def _log_after(log: Callable[[int], None], before: int, done: int) -> None:
    log(before + done)
