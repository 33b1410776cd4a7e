"""From item attributes to a reader: where prompts (data) and the frozen LLM (nn) meet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from laserrec.config import PromptConfig
from laserrec.data.prompts import Template
from laserrec.errors import CheckpointError
from laserrec.nn.backbone import Backbone
from laserrec.nn.readers import PrefixFirst, Reader, ReadOut, TextFirst
from laserrec.nn.text_cache import TextCache

Attributes = Mapping[str, str]


class ItemTexts:
    """The items' lines as token ids, and the reader that reads them.

    Attributes:
        items: attributes of each item, in index order.
        reader: reads histories of those items, in the prompt order that the settings name.
        item_reader: reads single items; `reader`, unless they have an instruction of their own.
    """

    def __init__(self, backbone: Backbone, prompt: PromptConfig, items: Sequence[Attributes], read_out: ReadOut = "suffix") -> None:
        """Take the items; nothing is encoded yet."""
        self.backbone, self.prompt, self.template, self.items = backbone, prompt, Template(prompt), list(items)
        self._lines: dict[tuple[int, int], list[int]] = {}
        self._caches: list[TextCache] = []
        self.reader: Reader = self._build(prompt.instruction, read_out)
        self.item_reader: Reader = self.reader
        if prompt.item_instruction is not None and prompt.item_instruction != prompt.instruction:
            self.item_reader = self._build(prompt.item_instruction, read_out)

    def _build(self, instruction: str, read_out: ReadOut) -> Reader:
        tokens = self.backbone.tokenize(instruction)
        if self.prompt.order == "prefix_first":
            return PrefixFirst(self.backbone, tokens, self.line, read_out)
        cache = TextCache(self.backbone, tokens, self.lines(self.items))
        self._caches.append(cache)
        return TextFirst(cache, read_out)

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

    def encode_once(self, folder: Path, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode every item's text, or take the encoding from `folder` where these very texts were encoded before by this very LLM.

        Without a text cache (`prefix_first`) there is nothing to do.

        Args:
            folder: where encodings are kept.
            told: told how many texts are encoded so far.
        """
        self.reuse(folder)
        for cache in self._caches:
            if not cache.complete:
                cache.require(torch.arange(len(self.items)), told)
                cache.save(self._path(folder, cache))

    @property
    def seconds(self) -> float:
        """What encoding the texts took, now or when it was done."""
        return sum(cache.seconds for cache in self._caches)

    @property
    def bytes(self) -> int:
        """Bytes of encoded text held."""
        return sum(cache.bytes for cache in self._caches)

    def reuse(self, folder: Path) -> None:
        """Take the texts' encoding from `folder` where it is there; otherwise a text is encoded when it is first read."""
        for cache in self._caches:
            path = self._path(folder, cache)
            try:
                if path.exists():
                    cache.load(path)
            except CheckpointError:
                # A damaged encoding costs time, not truth: it is made again.
                path.unlink()

    def _path(self, folder: Path, cache: TextCache) -> Path:
        """Return where a cache is kept: the name stands for the LLM's weights and every token."""
        lines = [row.tolist() for row in cache.tokens]
        text = json.dumps([self.backbone.fingerprint(), cache.instruction_tokens, lines])
        return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def _cut(self, tokens: list[int]) -> list[int]:
        # The last token ends the line; a line cut short still ends.
        limit = self.prompt.max_item_tokens
        return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]
