"""A shop as two CSV files, and a tiny language model that stands for the default one: what documents are tried out on."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

USERS = ("anna", "ben", "carla", "dan", "eva", "finn", "gita", "hugo")
ITEMS = ("Tent", "Camping stove", "Sleeping bag", "Head torch", "Rope, 10 m", "Water bottle", "Compass", "Map of the Alps")


def write_shop(folder: Path) -> None:
    """Write eight users who bought six of eight items each."""
    rows = [f"{user},i{(start + step) % 8},{1_700_000_000 + 100 * start + step}" for start, user in enumerate(USERS) for step in range(6)]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (folder / "items.csv").write_text("\n".join(["item_id,title", *(f'i{place},"{title}"' for place, title in enumerate(ITEMS))]) + "\n")


def write_llm(folder: Path) -> None:
    """Write a Llama of two small layers that reads bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=256,
        pad_token_id=256,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
