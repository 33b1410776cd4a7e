"""Build a synthetic shop around a real language model: items of random words, random histories, an untrained Laser.

Everything is built through the functions that training uses; only the training itself is left out, which no duration depends on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.flops import Shape
from benchmarks.speed.limits import DType
from benchmarks.speed.plain import PlainRoute
from laserrec.config import LaserConfig, PromptConfig, Weights
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.reader import Reader
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.llm.backbone import Backbone
from laserrec.llm.gguf import resolve_llm
from laserrec.llm.loading import load_backbone
from laserrec.recommender import Laser
from laserrec.sequential.build import build_recommender
from laserrec.system.devices import choose

WORDS = """
    tent stove lamp rope map torch kite desk ruler pen globe tape clip paper ink chair table mug plate fork spoon
    knife bowl pan pot kettle brush comb soap towel mirror clock watch ring belt coat hat scarf boot shoe sock bag
    box case jar bottle cup glass wood steel brass oak red blue green black white small large light heavy soft
    hard old new
"""


@dataclass(frozen=True)
class Setting:
    """What is benchmarked.

    Attributes:
        llm: an asset name, a Hugging Face id or a local folder.
        dtype: of the frozen weights.
        weights: how our routes keep those inside the layers; the plain route has them in full.
        layers: decoder layers to keep; all when None.
        catalogue: items of the shop.
        item_tokens: tokens of an item's line.
        vary: lines have between (1 - vary) and (1 + vary) times as many words; exactly `item_tokens` tokens each at 0.
        history: items of a history.
        prefix: L, the number of prefix tokens.
        users: histories of one repeat where only virtual tokens go through the model.
        prompts: histories of one repeat where whole prompts do.
        batch: prompts that go through the model at a time.
        repeats: timed rounds.
        threads: of torch; what it has by itself when None.
        side: of the square product that measures the limits.
        compiled: our elementwise kernels go through `torch.compile`.
        seed: of texts, histories and weights.
        device: where both routes compute.
    """

    llm: str = "smollm2-135m-instruct"
    dtype: DType = "bfloat16"
    weights: Weights = "full"
    layers: int | None = None
    catalogue: int = 400
    item_tokens: int = 24
    vary: float = 0.0
    history: int = 10
    prefix: int = 8
    users: int = 64
    prompts: int = 16
    batch: int = 16
    repeats: int = 5
    threads: int | None = None
    side: int = 2048
    compiled: bool = False
    seed: int = 0
    device: str = "cpu"

    def config(self, order: str) -> LaserConfig:
        """Return the settings of a Laser in one prompt order."""
        longest = math.ceil(self.item_tokens * (1 + self.vary))
        prompt = {"order": order, "max_item_tokens": longest, "max_history": self.history}
        sections = {
            "seed": self.seed,
            "llm": {
                "model": self.llm,
                "dtype": self.dtype,
                "weights": self.weights,
                "layers": self.layers,
            },
            "runtime": {"compiled": self.compiled},
            "prompt": prompt,
            "virtual": {"prefix_length": self.prefix},
            "collaborative": {"max_history": max(self.history, 1)},
        }
        return LaserConfig.build("default", sections, "bench")


class SyntheticShop:
    """A shop, the language model, and histories.

    Attributes:
        setting: what was asked for.
        device: where both routes compute.
        backbone: the frozen LLM.
        weight_bytes: of our routes' frozen LLM as it was loaded, its embeddings among them.
        shape: its sizes.
        items: attributes of each item.
        lines: token ids of each item's line.
        histories: item indices int64 [users or prompts, the larger; history], no item twice in a row.
    """

    def __init__(self, setting: Setting) -> None:
        """Load the language model and write the shop's texts."""
        self.setting = setting
        self.device = choose(setting.device)
        self.backbone: Backbone = load_backbone(setting.config("text_first"), self.device)
        tensors = (*self.backbone.model.parameters(), *self.backbone.model.buffers())
        self.weight_bytes = sum(tensor.nbytes for tensor in tensors)
        self._deviation = self.backbone.embeddings.weight.float().std()
        self.shape = Shape.of(self.backbone.model.config)
        self.items = catalogue(setting)
        self.lines = self.texts("prefix_first").lines(self.items)
        rng = np.random.default_rng(setting.seed)
        rows = [rng.choice(setting.catalogue, setting.history, replace=False) for _ in range(max(setting.users, setting.prompts))]
        self.histories = torch.from_numpy(np.stack(rows)).to(self.device)

    def texts(self, order: str) -> ItemTexts:
        """Return the items' texts and their reader; nothing is encoded yet."""
        prompt: PromptConfig = self.setting.config(order).prompt
        return ItemTexts(self.backbone, prompt, self.items)

    @property
    def arithmetic(self) -> DType:
        """Type that both routes compute in: float32 where the processor is slow at the setting's bfloat16."""
        return "bfloat16" if self.backbone.dtype == torch.bfloat16 else "float32"

    def plain(self, batch_size: int) -> PlainRoute:
        """Return the plain route on a model of its own."""
        path = str(resolve_llm(self.setting.llm))
        return PlainRoute(path, dtype=self.arithmetic, layers=self.setting.layers, batch_size=batch_size, device=self.device)

    def prompts(self, histories: Tensor) -> list[list[list[int]]]:
        """Return the token ids of each history's items."""
        return [[self.lines[item] for item in row] for row in histories.tolist()]

    def virtual(self, rows: int) -> Tensor:
        """Return virtual tokens [rows, L + 1, H], float32, at the scale of the model's embeddings."""
        generator = torch.Generator().manual_seed(self.setting.seed)
        return torch.randn(rows, self.setting.prefix + 1, self.backbone.width, generator=generator).to(self.device) * self._deviation

    def system(self, texts: ItemTexts) -> LaserSystem:
        """Return an untrained system with its item matrix up to date."""
        config = self.setting.config(texts.prompt.order)
        torch.manual_seed(config.seed)
        recommender = build_recommender(config.collaborative, self.setting.catalogue).to(self.device)
        built = build_laser(
            config, self.backbone, texts, CollaborativeView(recommender, torch.ones(self.setting.catalogue, dtype=torch.bool))
        )
        built.refresh()
        return built

    def laser(self, texts: ItemTexts) -> Laser:
        """Return an untrained Laser that can be asked for recommendations."""
        ids = [f"item-{place}" for place in range(self.setting.catalogue)]
        return Laser(self.setting.config(texts.prompt.order), ids, self.system(texts), {"dataset": "bench"})


def catalogue(setting: Setting) -> list[dict[str, str]]:
    """Write titles of random words, of `item_tokens` tokens or more at `vary` 0, so that lines are cut to exactly that."""
    rng = np.random.default_rng(setting.seed)
    words = WORDS.split()
    low, high = (round(setting.item_tokens * (1 + side * setting.vary)) for side in (-1, 1))
    lengths = rng.integers(max(low, 1), high, setting.catalogue, endpoint=True)
    return [{"title": " ".join(rng.choice(words, length))} for length in lengths]


def read(reader: Reader, histories: Tensor, virtual: Tensor) -> Tensor:
    """Read full histories int64 [B, S]: embeddings float32 [B, H]."""
    return reader.read(histories, torch.ones_like(histories, dtype=torch.bool), virtual)
