"""From item attributes to a reader: where prompts (data) and the frozen LLM (nn) meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laserrec.config import PromptConfig
from laserrec.data.prompts import Template
from laserrec.nn.backbone import Backbone
from laserrec.nn.readers import PrefixFirst, Reader, ReadOut, TextFirst
from laserrec.nn.text_cache import TextCache

Attributes = Mapping[str, str]


class ItemTexts:
    """The token ids of the items' lines.

    Attributes:
        items: attributes of each item, in index order.
    """

    def __init__(self, backbone: Backbone, prompt: PromptConfig, items: Sequence[Attributes]) -> None:
        """Take the items; lines are written when asked for."""
        self.backbone, self.prompt, self.template, self.items = backbone, prompt, Template(prompt), list(items)
        self._lines: dict[tuple[int, int], list[int]] = {}

    @property
    def instruction(self) -> list[int]:
        """Token ids of the instruction."""
        return self.backbone.tokenize(self.prompt.instruction)

    def lines(self, items: Sequence[Attributes]) -> list[list[int]]:
        """Return the token ids of the items' lines, wherever they stand in a history."""
        rows = self.backbone.tokenize_all([self.template.line(item, 1) for item in items])
        return [self._cut(row) for row in rows]

    def line(self, item: int, number: int) -> list[int]:
        """Return the token ids of an item's line as the `number`-th of a history, from 1."""
        if (item, number) not in self._lines:
            self._lines[item, number] = self._cut(self.backbone.tokenize(self.template.line(self.items[item], number)))
        return self._lines[item, number]

    def _cut(self, tokens: list[int]) -> list[int]:
        # The last token ends the line; a line cut short still ends.
        limit = self.prompt.max_item_tokens
        return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]


def build_reader(texts: ItemTexts, read_out: ReadOut) -> Reader:
    """Return the reader of the prompt order that the texts' settings name."""
    if texts.prompt.order == "text_first":
        return TextFirst(TextCache(texts.backbone, texts.instruction, texts.lines(texts.items)), read_out)
    return PrefixFirst(texts.backbone, texts.instruction, texts.line, read_out)
