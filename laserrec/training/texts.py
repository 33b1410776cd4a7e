"""From item attributes to a reader: where prompts (data) and the frozen LLM (nn) meet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
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
    """

    def __init__(self, backbone: Backbone, prompt: PromptConfig, items: Sequence[Attributes], read_out: ReadOut = "suffix") -> None:
        """Take the items; nothing is encoded yet."""
        self.backbone, self.prompt, self.template, self.items = backbone, prompt, Template(prompt), list(items)
        self._lines: dict[tuple[int, int], list[int]] = {}
        instruction = backbone.tokenize(prompt.instruction)
        self.cache: TextCache | None = None
        self.reader: Reader
        if prompt.order == "text_first":
            self.cache = TextCache(backbone, instruction, self.lines(self.items))
            self.reader = TextFirst(self.cache, read_out)
        else:
            self.reader = PrefixFirst(backbone, instruction, self.line, read_out)

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
        """Take further items, which get the next indices."""
        self.items += items
        if self.cache is not None:
            self.cache.extend(self.lines(items))

    def shrink(self, count: int) -> None:
        """Forget the last `count` items."""
        kept = len(self.items) - count
        del self.items[kept:]
        self._lines = {key: line for key, line in self._lines.items() if key[0] < kept}
        if self.cache is not None:
            self.cache.shrink(count)

    def encode_once(self, folder: Path) -> None:
        """Encode every item's text, or take the encoding from `folder` where these very texts were encoded before by this very LLM.

        Without a text cache (`prefix_first`) there is nothing to do.
        """
        if self.cache is not None and not self.reuse(folder):
            self.cache.require(torch.arange(len(self.items)))
            self.cache.save(self._path(folder))

    def reuse(self, folder: Path) -> bool:
        """Take the texts' encoding from `folder` if it is there; otherwise a text is encoded when it is first read."""
        if self.cache is None or not self._path(folder).exists():
            return False
        try:
            self.cache.load(self._path(folder))
        except CheckpointError:
            # A damaged encoding costs time, not truth: it is made again.
            self._path(folder).unlink()
            return False
        return self.cache.complete

    def _path(self, folder: Path) -> Path:
        return folder / f"{self._key()}.safetensors"

    def _key(self) -> str:
        assert self.cache is not None
        lines = [row.tolist() for row in self.cache.tokens]
        text = json.dumps([self.backbone.fingerprint(), self.backbone.tokenize(self.prompt.instruction), lines])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _cut(self, tokens: list[int]) -> list[int]:
        # The last token ends the line; a line cut short still ends.
        limit = self.prompt.max_item_tokens
        return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]
