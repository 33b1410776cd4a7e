"""Real language models and catalogues of a few thousand weights, built in memory in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModel,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from laserrec.config import LaserConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.model import LaserModel
from laserrec.laser.scoring import GAIN
from laserrec.laser.system import LaserSystem
from laserrec.llm.backbone import Backbone
from laserrec.sequential.sasrec import SASRec
from laserrec.training.laser_task import LaserTask

WIDTH = 32
END = 256
VOCABULARY = 257
ROTARY = ("llama-grouped", "llama-full", "qwen2", "qwen3", "mistral")

TITLES = (
    "Ruler",
    "Oak desk",
    "Ink",
    "Brass lamp",
    "Graph paper",
    "Pen",
    "Blue pen",
    "Globe",
    "Magnifier x10",
    "Clip",
    "Tape",
    "Slides, blank",
)
ITEMS: list[dict[str, str]] = [
    {"title": title, "brand": f"B{place % 3}"} if place % 2 else {"title": title} for place, title in enumerate(TITLES)
]
HISTORIES = ([0, 1, 2, 3], [4, 5, 6], [7, 8], [9, 10, 11, 0, 1, 2], [3, 5, 7], [2, 4, 6, 8], [1, 0], [11, 9, 7, 5], [6, 3], [8, 10, 4])


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and an end token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")


def llm_config(kind: str, layers: int = 2, **changes: Any) -> PreTrainedConfig:  # noqa: ANN401 - settings of any type
    """Settings of a tiny decoder; the rotary ones have 4 query heads."""
    if kind == "gpt2":
        ends = {"bos_token_id": END, "eos_token_id": END}
        return GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=layers, n_head=4, n_positions=512, **ends, **changes)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 1024,
    }  # fmt: skip
    if kind == "llama-grouped":
        return LlamaConfig(**sizes | changes)
    if kind == "llama-full":
        return LlamaConfig(**sizes | {"num_key_value_heads": 4} | changes)
    if kind == "qwen2":
        return Qwen2Config(**sizes | changes)
    if kind == "qwen3":
        return Qwen3Config(**sizes | {"head_dim": 12} | changes)
    if kind == "mistral":
        return MistralConfig(**sizes | {"sliding_window": None} | changes)
    raise AssertionError(kind)


def backbone(kind: str = "llama-grouped", layers: int = 2, keep: int | None = None, **changes: Any) -> Backbone:  # noqa: ANN401
    """A frozen decoder whose weights, biases and norms are all far from where models start, so that a slip in any of them shows."""
    model = AutoModel.from_config(llm_config(kind, layers, **changes), dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = weight.ndim == 1 and name.endswith("weight")
            weight.copy_(1 + 0.2 * noise if scale else 0.25 * noise)
    return Backbone(model, tokenizer(), keep)


def config(**sections: Mapping[str, Any]) -> LaserConfig:
    """Settings small enough for a test: three prefix tokens, two experts, one instruction."""
    small: dict[str, dict[str, Any]] = {
        "llm": {"dtype": "float32"},
        "prompt": {"instruction": "Buys:\n", "max_history": 4},
        "virtual": {"prefix_length": 3},
        "mformer": {"experts": 2, "width": 16, "heads": 2, "blocks": 2},
    }
    for section, values in sections.items():
        small[section] = {**small.get(section, {}), **values}
    return LaserConfig.build("default", small, "test")


def sasrec(catalogue: int = len(ITEMS), max_history: int = 5) -> SASRec:
    """A sequential recommender with lively weights."""
    torch.manual_seed(3)
    model = SASRec(catalogue_size=catalogue, width=8, blocks=1, heads=2, max_history=max_history, dropout=0.1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def system(
    settings: LaserConfig | None = None,
    kind: str = "llama-grouped",
    items: Sequence[Mapping[str, str]] = ITEMS,
    known: Tensor | None = None,
) -> LaserSystem:
    """A whole untrained Laser, always with the same weights, its item matrix up to date."""
    settings = settings or config()
    llm = backbone(kind)
    texts = ItemTexts(llm, settings.prompt, items, settings.virtual.read_out)
    view = CollaborativeView(sasrec(len(items)), torch.ones(len(items), dtype=torch.bool) if known is None else known)
    torch.manual_seed(11)
    model = LaserModel(settings, llm, state_width=view.model.width, catalogue_size=len(items))
    built = LaserSystem(model, texts, view, settings.prompt.max_history)
    built.refresh()
    return built


def liven(module: torch.nn.Module, deviation: float = 0.2) -> None:
    """Move every trained weight away from where it starts, zeros above all."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * deviation)


def task(laser: LaserSystem, *, balance: float = 0.01, positions: int = 0, refresh: bool = True, seed: int = 0) -> LaserTask:
    """Training on HISTORIES but for each one's last item, which validates."""
    histories = Ragged.from_rows([row[:-1] for row in HISTORIES])
    valid = Cases(np.arange(len(HISTORIES)), histories, np.array([row[-1] for row in HISTORIES]))
    return LaserTask(laser, histories, valid, balance=balance, positions=positions, refresh=refresh, seed=seed)


def batch(rows: Sequence[Sequence[int]], longest: int | None = None, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Histories as items and mask, padded on the right with `fill`."""
    longest = max(map(len, rows)) if longest is None else longest
    items = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], dtype=torch.int64).reshape(len(rows), longest)
    mask = torch.tensor([[place < len(row) for place in range(longest)] for row in rows], dtype=torch.bool)
    return items, mask.reshape(len(rows), longest)


def llm_of(laser: LaserSystem) -> Backbone:
    """The frozen LLM that a system reads with."""
    return laser.catalogue.texts.backbone


def start_at(laser: LaserSystem, **scalars: float) -> LaserSystem:
    """Let scalars of the score, by name, begin elsewhere than at their constants."""
    with torch.no_grad():
        for name, value in scalars.items():
            getattr(laser.model.scorer, name).fill_(value / GAIN)
    return laser
