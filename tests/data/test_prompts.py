from __future__ import annotations

import pytest

from laserrec.config import PAPER_INSTRUCTION, LaserConfig, PromptConfig
from laserrec.data.prompts import ITEM_INSTRUCTION, NO_INSTRUCTION, WITHOUT_SINGLE_TOKEN, Template
from laserrec.errors import ConfigError

PAPER = LaserConfig.preset("paper").prompt
PENCIL = {"title": "Pencil", "brand": "Faber", "category": "Office"}
PAPER_REAM = {"title": "Paper {number}", "brand": "A4"}


def test_the_papers_template() -> None:
    assert Template(PAPER).history([PENCIL, PAPER_REAM]) == (
        PAPER_INSTRUCTION + ">> 1. Pencil (brand: Faber, category: Office)\n>> 2. Paper {number} (brand: A4)\n"
    )
    assert Template(PAPER).item(PENCIL) == PAPER_INSTRUCTION + ">> 1. Pencil (brand: Faber, category: Office)\n"


def test_the_default_line_has_no_number() -> None:
    assert Template(PromptConfig()).line(PENCIL, 7) == ">> Pencil (brand: Faber, category: Office)\n"


def test_what_is_missing_leaves_no_trace() -> None:
    template = Template(PromptConfig())
    assert template.item_text({"title": "Pencil"}) == "Pencil"
    assert template.item_text({"brand": "Faber"}) == "brand: Faber"
    assert template.item_text({"title": "Pencil", "brand": ""}) == "Pencil"
    assert template.item_text({}) == "unknown item"


def test_attributes_are_chosen_ordered_and_named() -> None:
    assert Template(PromptConfig(attributes=())).item_text(PENCIL) == "Pencil"
    assert Template(PromptConfig(attributes=("category", "brand"))).item_text(PENCIL) == "Pencil (category: Office, brand: Faber)"
    # The slip in the authors' data: the brand in the category's place.
    assert Template(PromptConfig(attributes=("brand", "category=brand"))).item_text(PENCIL) == "Pencil (brand: Faber, category: Faber)"


def test_attributes_that_no_column_gives_are_refused() -> None:
    Template(PromptConfig(attributes=("brand", "category=brand"))).check(["title", "brand"])
    Template(PromptConfig()).check(["title", "brand"])
    with pytest.raises(ConfigError, match="'colour'; the catalogue has title, brand"):
        Template(PromptConfig(attributes=("colour",))).check(["title", "brand"])


def test_the_ablated_instructions() -> None:
    assert NO_INSTRUCTION == ""
    assert "into a single token" in PAPER_INSTRUCTION
    assert "into a single token" not in WITHOUT_SINGLE_TOKEN
    assert len(PAPER_INSTRUCTION) - len(WITHOUT_SINGLE_TOKEN) == len(" into a single token")
    other = Template(PAPER.model_copy(update={"item_instruction": ITEM_INSTRUCTION}))
    assert other.item(PENCIL).startswith(ITEM_INSTRUCTION)
    assert other.history([PENCIL]).startswith(PAPER_INSTRUCTION)
