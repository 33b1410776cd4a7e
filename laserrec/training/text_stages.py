"""The stages in which the frozen language model reads every item's text: for keys and values, and as one vector where a model wants one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from laserrec.laser.item_texts import ItemTexts
from laserrec.llm.mean_pooling import mean_states
from laserrec.system.cache import texts_folder
from laserrec.system.resources import MemoryPeak
from laserrec.text_cache.blocks import SHARD_BYTES
from laserrec.training.context import FitContext
from laserrec.training.estimates import Estimate, enough, seconds_of, some
from laserrec.training.text_vectors import PHASE, TextVectors, text_vectors, vectors_file, vectors_source

ITEMS, TOKENS = 128, 2000
"""Of an estimate."""


@dataclass(frozen=True)
class VectorsStage:
    """Reads every item's text as one vector, for recommenders that are fed with vectors; kept beside the encoded texts."""

    name: str = PHASE

    def run(self, context: FitContext) -> None:
        """Read the vectors from the user's cache, or compute them."""
        if context.vectors is None:
            context.vectors = text_vectors(self._texts(context), context.config.prompt, context.backbone, context.observers)

    def estimate(self, context: FitContext) -> Estimate:
        """Time some texts; random vectors are left in the context."""
        texts, prompt, width = self._texts(context), context.config.prompt, context.backbone.width
        source = vectors_source(texts, prompt, context.backbone)
        context.vectors = TextVectors(torch.randn(len(texts), width), 0.0, source)
        if vectors_file(source).is_file():
            return Estimate(self.name)
        tried = [texts[place] for place in some(len(texts), enough(ITEMS, context.device))]
        seconds = seconds_of(partial(mean_states, context.backbone, tried, max_tokens=prompt.max_item_tokens))
        return Estimate(self.name, once=seconds / len(tried) * len(texts), cache=4 * len(texts) * width)

    @staticmethod
    def _texts(context: FitContext) -> list[str]:
        return [context.texts.template.item_text(item) for item in context.texts.items]


@dataclass(frozen=True)
class EncodeStage:
    """Encodes every item's line, or finds it in the user's cache."""

    name: str = "texts"

    def run(self, context: FitContext) -> None:
        """Encode what is missing."""
        texts = context.texts
        with context.watched(f"{self.name}, {texts.bytes / 2**30:.1f} GiB", texts.count) as progress:
            texts.encode_once(texts_folder(), progress)

    def estimate(self, context: FitContext) -> Estimate:
        """Time some lines of middle length: encoded with others of their length, a token of theirs costs what the mean one does."""
        texts, missing = context.texts, context.texts_missing
        if not missing:
            return Estimate(self.name)
        lengths = texts.caches[0].count_tokens(torch.arange(len(texts.items))[:, None], torch.ones(len(texts.items), 1, dtype=torch.bool))
        order = lengths.argsort(stable=True)
        # They are in memory all at once.
        tokens = max(1, min(enough(TOKENS, context.device), context.memory_for_trials // texts.token_bytes))
        sums = lengths[order].cumsum(0)
        middle = order[(sums > (int(sums[-1]) - tokens) // 2) & (sums <= max(tokens, (int(sums[-1]) + tokens) // 2))]
        chosen = [texts.items[item] for item in (middle if len(middle) else order[-1:]).tolist()]
        tried = ItemTexts(texts.backbone, texts.prompt, chosen, llm=context.config.llm)
        with MemoryPeak(context.device) as memory:
            seconds = seconds_of(partial(tried.recall, torch.arange(len(chosen))))
        # A shard is encoded in memory before it is written; rounding it to int8 takes it in float32 twice as well.
        copies = 10 if context.config.llm.cache == "int8" else 1
        room = min(SHARD_BYTES, missing) * copies + memory.grown
        return Estimate(self.name, once=seconds / tried.bytes * missing, memory=room, cache=missing)
