"""The text that the frozen LLM reads (paper §3.1.1): one template for users and items.

An instruction, then one line an item, `>> 1. TITLE (brand: BRAND, category: CATEGORY)`; an item is a history that holds only itself.
Templates are plain settings, `laserrec.config.PromptConfig`; the instructions of the paper's ablation are constants here.
Knows nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laserrec.config import PAPER_INSTRUCTION, PromptConfig
from laserrec.data.tables import TITLE
from laserrec.errors import ConfigError

NO_INSTRUCTION = ""
WITHOUT_SINGLE_TOKEN = PAPER_INSTRUCTION.replace(" into a single token", "")
ITEM_INSTRUCTION = (
    "You are an assistant of a recommender system. Summarise the characteristics of the item into a single token, from its description.\n"
)
UNKNOWN_ITEM = "unknown item"


@dataclass(frozen=True)
class Template:
    """Writes items and histories as text.

    Attributes:
        config: instruction, line and attributes. An attribute is a column's name, or `label=column` to show a column under another
            name: `("brand", "category=brand")` repeats the slip in the authors' data, whose category held the brand.
        columns: the catalogue's attributes in its order, which are shown where the settings name none; when None, an item's own.
    """

    config: PromptConfig
    columns: tuple[str, ...] | None = None

    def item_text(self, attributes: Mapping[str, str]) -> str:
        """Return `TITLE (brand: BRAND, category: CATEGORY)`.

        The brackets are left out when nothing would stand in them; without a title the bracket's content stands alone.
        """
        named = ", ".join(f"{label}: {attributes[column]}" for label, column in self._shown(attributes) if attributes.get(column))
        title = attributes.get(TITLE)
        if not title:
            return named or UNKNOWN_ITEM
        return f"{title} ({named})" if named else title

    def line(self, attributes: Mapping[str, str], number: int) -> str:
        """Return an item's line; `number` is its place in the history, from 1."""
        return self.config.line.replace("{number}", str(number), 1).replace("{text}", self.item_text(attributes), 1)

    def history(self, items: Sequence[Mapping[str, str]]) -> str:
        """Return the instruction and the items' lines, oldest first; the caller chooses which items."""
        return self.config.instruction + self._lines(items)

    def item(self, attributes: Mapping[str, str]) -> str:
        """Return an item as a history that holds only itself."""
        instruction = self.config.instruction if self.config.item_instruction is None else self.config.item_instruction
        return instruction + self._lines([attributes])

    def check(self, columns: Sequence[str]) -> None:
        """Refuse attributes that no column of the catalogue gives.

        Args:
            columns: the catalogue's attribute columns.

        Raises:
            ConfigError: `attributes` names another.
        """
        for _, column in self._shown(dict.fromkeys(columns, "")):
            if column not in columns:
                raise ConfigError(f"prompt.attributes names {column!r}; the catalogue has {', '.join(columns) or 'no attributes'}.")

    def _lines(self, items: Sequence[Mapping[str, str]]) -> str:
        return "".join(self.line(attributes, number) for number, attributes in enumerate(items, start=1))

    def _shown(self, attributes: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return (label, column) of what stands in the brackets."""
        if self.config.attributes is None:
            return [(name, name) for name in (attributes if self.columns is None else self.columns) if name != TITLE]
        return [(label, column or label) for label, _, column in (entry.partition("=") for entry in self.config.attributes)]
