"""Which language models are read, and which are refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import BertConfig, BertModel, T5Config, T5Model

from laserrec.errors import ConfigError
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
