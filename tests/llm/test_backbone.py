"""Which language models are read, and which are refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, T5Config, T5Model

from laserrec.config import PromptConfig
from laserrec.data.prompts import Template
from laserrec.errors import ConfigError
from laserrec.laser.item_texts import ItemTexts
from laserrec.llm.backbone import Backbone

SIZES = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize("kind", ["gpt2", *tiny.ROTARY])
def test_decoders_are_read(kind: str) -> None:
    torch.manual_seed(0)
    assert tiny.backbone(kind).width == 32


def test_an_encoder_is_refused() -> None:
    """Its states depend on what comes later, so on the padding of a shorter text beside a longer one."""
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match="In a 'bert' model what stands after a token changes its state"):
        Backbone(BertModel(BertConfig(**SIZES)), tiny.tokenizer())


def test_an_encoder_with_equal_embeddings_is_refused_too() -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**SIZES))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[:3] = 0
    with pytest.raises(ConfigError, match="changes its state"):
        Backbone(model, tiny.tokenizer())


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="A 't5' model cannot be read as a decoder of embeddings"):
        Backbone(T5Model(T5Config(vocab_size=257, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)), tiny.tokenizer())


TEXTS = st.text(st.sampled_from("ab é 漢🙂\n"), max_size=600)


@given(texts=st.lists(TEXTS, max_size=3), limit=st.integers(1, 40))
def test_a_text_that_is_cut_has_the_same_first_tokens(texts: list[str], limit: int) -> None:
    llm = tiny.backbone()
    whole = [llm.tokenizer(text, add_special_tokens=False)["input_ids"][:limit] for text in texts]
    assert llm.tokenize_all(texts, limit) == whole
    assert [llm.tokenize(text, limit) for text in texts] == whole
    assert [llm.tokenize(text) for text in texts] == [llm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_a_megabyte_of_text_costs_no_more_than_its_first_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    llm, read = tiny.backbone(), []
    tokenizer = llm.tokenizer

    def watched(text: str | list[str], **options: object) -> object:
        read.extend([text] if isinstance(text, str) else text)
        return tokenizer(text, **options)

    monkeypatch.setattr(llm, "tokenizer", watched)
    monkeypatch.setattr(watched, "get_vocab", tokenizer.get_vocab, raising=False)
    assert len(llm.tokenize_all(["x" * 10**6, "y"], 64)[0]) == len(llm.tokenize("x" * 10**6, 64)) == 64
    longest = max(map(len, tokenizer.get_vocab()))
    assert max(map(len, read)) <= 2 * 65 * longest < 10_000


def test_an_item_of_long_attributes_has_the_same_line_as_ever() -> None:
    items = [{"title": "Tent", "text": "x" * 10**6}, {"title": "Rope" * 50, "brand": "Alp"}, {"title": "漢" * 10**5}]
    llm, prompt = tiny.backbone(), PromptConfig(max_item_tokens=16)
    texts = ItemTexts(llm, prompt, items)
    for item, row in zip(items, texts.lines(items), strict=True):
        whole = llm.tokenizer(Template(prompt).line(item, 1), add_special_tokens=False)["input_ids"]
        assert row == [*whole[:15], whole[-1]]
