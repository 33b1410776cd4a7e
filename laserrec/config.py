"""Every setting of a run: frozen models, TOML in, JSON beside the weights, unknown keys rejected.

Each setting has one owner, the section it stands in, and is read in one place. Where the paper (arXiv 2409.01605) fixes a value,
`LaserConfig.preset("paper")` has it; the defaults are what validates best on two cores in minutes (docs/explanation/results.md).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from laserrec.errors import ConfigError, shown

PAPER_INSTRUCTION = (
    "You are an assistant of a recommender system. Summarise the characteristics of the user into a single token, "
    "from the browsing history. The items follow in chronological order.\n"
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


Weights = Literal["full", "int8", "nf4", "fp8"]


class LLMConfig(_Section):
    """The frozen language model."""

    model: str = "smollm2-135m-instruct"
    """An asset name, a local folder, or `hf:owner/name`, a repository on the Hugging Face hub."""
    layers: int | None = Field(None, ge=1)
    """Decoder layers to keep, from the bottom; all of them when unset."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Type of the frozen weights, and of the arithmetic through them but where the processor is slow at bfloat16: there it is float32."""
    weights: Weights = "full"
    """How the weights inside the layers are kept: as `dtype`, or in 8 bits (int8, fp8) or 4 (nf4); the arithmetic stays `dtype`'s."""
    cache: Literal["exact", "int8"] = "exact"
    """How encoded texts are kept on disk: as `dtype`, or in 8 bits, which takes half the room of bfloat16 and rounds keys and values."""


class PromptConfig(_Section):
    """The text the frozen LLM reads (paper §3.1.1)."""

    order: Literal["text_first", "prefix_first"] = "text_first"
    """`prefix_first` is the paper's [P; text; s]; `text_first` is [text; P; s], whose texts are encoded once."""
    instruction: str = ""
    """What stands before the items."""
    item_instruction: str | None = None
    """What stands before an item that is read alone; `instruction` when unset, as in the paper. Its texts are then encoded apart."""
    line: str = ">> {text}\n"
    """One item's line; `{text}` is the item's text and `{number}` its place in the history, from 1 (prefix_first only)."""
    attributes: tuple[str, ...] | None = None
    """Attributes named in brackets after the title; all of the catalogue's when unset."""
    max_item_tokens: int = Field(64, ge=1)
    """An item's line is cut to this many tokens."""
    max_history: int = Field(10, ge=1)
    """Items of a history that are read as text, counted from the most recent."""

    @model_validator(mode="after")
    def _line_fits_order(self) -> Self:
        if "{text}" not in self.line:
            raise ValueError(f"prompt.line must hold {{text}}; received {shown(self.line)}")
        if "{number}" in self.line and self.order == "text_first":
            raise ValueError("prompt.line may hold {number} only with prompt.order = 'prefix_first'; text_first encodes a line once")
        return self


class VirtualConfig(_Section):
    """The trained virtual tokens around the text (Bi-Tuning, paper §3.1.2)."""

    prefix_length: int = Field(4, ge=0)
    """L, the number of prefix tokens; 0 leaves the prefix out."""
    start: Literal["words", "random"] = "words"
    """Where the tokens start from: the embeddings of `words`, or noise at the embeddings' scale."""
    words: str = 'In one word: "'
    """The last word token starts the suffix, those before it the end of the prefix."""
    read_out: Literal["suffix", "mean", "last"] = "suffix"
    """What becomes the embedding: the state at the trained suffix, the mean over the prompt, or the state at a frozen end token."""


class MFormerConfig(_Section):
    """Where the prefix comes from (paper §3.2)."""

    source: Literal["mformer", "linear", "plain"] = "mformer"
    """`mformer` is the paper's; `linear` projects the mean collaborative state; `plain` trains the prefix alone."""
    experts: int = Field(4, ge=1)
    """K, the number of query experts; 1 is the plain Q-Former."""
    width: int = Field(128, ge=1)
    """Width of the transformer's states."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    blocks: int = Field(2, ge=1, le=200)
    """Z, transformer blocks; every other one, from the first, cross-attends to the collaborative states."""
    routing: Literal["gated", "paper"] = "gated"
    """`paper`: a hard choice, so only the balance loss trains the router; `gated`: a straight-through gate lets the task loss reach it."""
    drop_state: float = Field(0.1, ge=0, le=1)
    """Share of training histories whose collaborative states are replaced by the trained "no history" memory."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"mformer.width must be a multiple of mformer.heads; received {self.width} and {self.heads}")
        return self


LARGEST_BONUS = 1000.0
"""Upper bound of the cold-start bonus, in standard deviations of the score: far beyond every other score."""


class ScoreConfig(_Section):
    """How an item is scored against a history (paper §3.1.2; departures in docs/explanation/method.md)."""

    temperature: float = Field(0.3, gt=0)
    """τ, at the start when it is learnt."""
    learn_temperature: bool = True
    """Train 1/τ; the paper fixes τ = 0.05."""
    standardise: bool = True
    """Centre, scale and partially whiten states, as fitted to the catalogue, before the cosine; the paper does not."""
    linear_read_out: bool = True
    """One trained linear map, started at the identity, over users' and items' states; the paper has none."""
    nearest: bool = True
    """Add κ · (how near an item is to those of the history by their own states), κ trained; the paper does not."""
    lexical: bool = True
    """Add ω · (how many rare words an item shares with those of the history), ω trained; the paper does not."""
    fuse_collaborative: bool = True
    """Add γ · (standardised score of the sequential recommender), γ trained; the paper does not."""
    cold_start_bonus: float | None = Field(None, ge=-LARGEST_BONUS, le=LARGEST_BONUS)
    """Bonus of an item without interactions over the mean score of its nearest warm items, in standard deviations; where it is unset
    and scalars are calibrated, it is fitted on warm items that are treated as cold."""
    seen_penalty: bool = True
    """Subtract a trained δ from the items of the history; the paper does not."""
    calibrate: bool = True
    """Fit 1/τ, κ, ω, γ and δ, those that are trained, on training targets before anything else; the paper has none to fit."""
    balance: float = Field(0.01, ge=0)
    """λ, weight of the load-balancing loss (paper §3.3.1)."""

    @model_validator(mode="after")
    def _bonus_needs_a_fused_score(self) -> Self:
        if self.cold_start_bonus is not None and not self.fuse_collaborative:
            raise ValueError("score.cold_start_bonus raises a fused score; set score.fuse_collaborative, or leave it unset")
        return self


Architecture = Literal["sasrec", "bert4rec", "gru4rec", "fdsa"]
ItemsFrom = Literal["id", "text", "both"]


class CollaborativeConfig(_Section):
    """The sequential recommender: trained first, then frozen."""

    model: Architecture = "sasrec"
    """Architecture; `fdsa` reads the items' texts beside their vectors, whatever those are."""
    items: ItemsFrom = "id"
    """What its item vectors are: trained for each id, made from what the frozen LLM says of the text, or the sum of both."""
    text_experts: int = Field(1, ge=1)
    """Linear maps from a text to an item vector, mixed by a softmax; UniSRec has eight, one is a plain map."""
    width: int = Field(64, ge=1)
    """Width of its states."""
    blocks: int = Field(2, ge=1, le=200)
    """Transformer blocks, or recurrent layers."""
    heads: int = Field(2, ge=1)
    """Attention heads; a recurrent network has none."""
    max_history: int = Field(50, ge=1)
    """Items of a history that it reads, counted from the most recent."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout of embeddings, attention and feed-forward."""
    seen_penalty: bool = True
    """Subtract a trained δ from the items of the history; none of the papers does."""
    hold_out: int = Field(1, ge=0)
    """Training positions at each history's end that it is not trained on, so that Laser learns how far to trust it (stacking)."""
    refits: tuple[ItemsFrom, ...] = ("id", "both", "both", "both", "both")
    """Once Laser is trained, train one of each on all positions, and fuse the mean score of all, or of a kind, that validates best.
    With `[]`, or with `hold_out = 0`, the recommender that Laser reads with is fused alone, without neighbours and EASE."""
    neighbours: bool = True
    """Blend neighbours, items that were taken together, into the score of the refits; how much is fitted on validation."""
    ease: bool = True
    """Blend EASE, each item predicted from the others that a user took, into the score of the refits likewise."""

    @property
    def name(self) -> str:
        """What folders and logs call it."""
        experts = f"-x{self.text_experts}" if self.items != "id" and self.text_experts > 1 else ""
        return self.model + {"id": "", "text": "-text", "both": "-text-id"}[self.items] + experts

    @property
    def architecture(self) -> dict[str, Any]:
        """What the recommender itself depends on, as JSON holds it: all but what it is trained on and what is fused with it."""
        return self.model_dump(mode="json", exclude={"hold_out", "refits", "neighbours", "ease"})

    @property
    def reads_texts(self) -> bool:
        """Whether anything that it reads is made from the items' texts."""
        return self.items != "id" or self.model == "fdsa"

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"collaborative.width must be a multiple of collaborative.heads; received {self.width} and {self.heads}")
        return self


class FitConfig(_Section):
    """One fit of the training loop."""

    epochs: int = Field(20, ge=0)
    """At most this many passes over the training histories."""
    patience: int = Field(3, ge=1)
    """Stop after this many epochs without a better validation score."""
    patience_steps: int = Field(0, ge=0)
    """And not before as many optimiser steps without one: where few users make short epochs, a few of them tell little."""
    batch_size: int = Field(64, ge=1)
    """Histories an optimiser step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay of matrices."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises from zero."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of the gradient; unset for no clipping."""
    validation_cases: int | None = Field(None, ge=1)
    """Validate on this many cases, drawn once from the seed; on all of them when unset."""
    metric: str = "ndcg@10"
    """Validation metric that chooses the best epoch; larger is better."""


class RuntimeConfig(_Section):
    """How this machine computes a run; the run stays the same, but for what the settings in `ROUNDING` change."""

    text_memory: float | None = Field(None, gt=0, le=2.0**30)
    """Memory of the device for encoded texts, in GiB; half of what is free when unset. What does not fit stays on disk until it is read."""
    sequential_micro_batch: int | None = Field(None, ge=1)
    """Histories a forward pass of a sequential recommender at most; gradients accumulate over the batch. The whole batch when unset."""
    laser_micro_batch: int | None = Field(None, ge=1)
    """The same for stages 1 and 2."""
    checkpoint_seconds: float = Field(60.0, ge=0)
    """Seconds between checkpoints inside an epoch; 0 writes one at every step."""
    shards: int = Field(1, ge=1)
    """Parts that a batch is cut into, each with separate noise. Workers share them, so results depend on this number and not on theirs."""
    compiled: bool = False
    """Compile the elementwise arithmetic where a C++ compiler is at hand; worth some seconds before long runs with prefix_first."""

    def over(self, begun: RuntimeConfig) -> RuntimeConfig:
        """Return these settings, with those of a run as it was begun wherever these are as by default."""
        usual = RuntimeConfig()
        return self.model_copy(update={key: value for key, value in begun if getattr(self, key) == getattr(usual, key)})


ROUNDING = ("sequential_micro_batch", "laser_micro_batch", "shards", "compiled")
"""Runtime settings that change the last digits of sums; all but `compiled` also change which noise dropout draws, as another seed does."""


class LaserConfig(_Section):
    """All settings of a run."""

    seed: int = Field(0, ge=0, le=2**63)
    """Seed of weights, order of histories and dropout."""
    start: str | None = None
    """A trained model, its folder or a run's or `hf:owner/name`: its virtual tokens, M-Former and score are where training starts from."""
    llm: LLMConfig = LLMConfig()
    prompt: PromptConfig = PromptConfig()
    virtual: VirtualConfig = VirtualConfig()
    mformer: MFormerConfig = MFormerConfig()
    score: ScoreConfig = ScoreConfig()
    collaborative: CollaborativeConfig = CollaborativeConfig()
    # Recommenders take some hundreds of steps to leave popularity behind: with one to five an epoch that is a hundred epochs (docs/log.md).
    fit_collaborative: FitConfig = FitConfig(epochs=250, patience=5, patience_steps=160, batch_size=256, learning_rate=1e-3)
    stage1: FitConfig = FitConfig(epochs=6, patience=2, learning_rate=3e-4, warmup_steps=50, validation_cases=2000)
    stage2: FitConfig = FitConfig(epochs=2, patience=2, learning_rate=1e-4, warmup_steps=50, validation_cases=2000)
    """Left out where it has no epochs; its cases and its metric choose what is fused all the same."""
    runtime: RuntimeConfig = RuntimeConfig()

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's results depend on, as JSON holds it: every setting but those of `runtime`."""
        return self.model_dump(mode="json", exclude={"runtime"})

    @classmethod
    def preset(cls, name: Literal["default", "paper"]) -> Self:
        """Return a named set of settings: `default` for two cores, `paper` for the paper's sizes and rules."""
        if name == "default":
            return cls()
        if name == "paper":
            return cls.model_validate(PAPER)
        raise ConfigError(f"Unknown preset {shown(name)}; allowed are 'default' and 'paper'.")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML or JSON file; a top-level `preset` names what the file departs from.

        Raises:
            ConfigError: the file is absent, malformed, or holds an unknown key or a value out of range.
        """
        try:
            text = path.read_text(encoding="utf-8")
            values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"Cannot read the settings in {path}: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold an object of settings; it holds a {type(values).__name__}.")
        return cls.build(values.pop("preset", "default"), values, source=str(path))

    @classmethod
    def build(cls, preset: Literal["default", "paper"], values: Mapping[str, Any], source: str) -> Self:
        """Lay `values`, nested by section, over a preset.

        Args:
            preset: the settings to start from.
            values: what to change, `{"stage1": {"epochs": 3}}`.
            source: where the values come from, for the error message.

        Raises:
            ConfigError: a key is unknown or a value out of range.
        """
        merged = cls.preset(preset).model_dump()
        _overlay(merged, values, source)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_explain(error)}") from error

    def override(self, assignments: Iterable[str]) -> Self:
        """Apply `section.key=value` assignments, as the command line gives them.

        Values are read as TOML and, where that fails, as plain text.

        Raises:
            ConfigError: an assignment has no `=`, an unknown key or a value out of range.
        """
        merged = self.model_dump()
        for assignment in assignments:
            key, separator, value = assignment.partition("=")
            if not separator:
                raise ConfigError(f"{shown(assignment)}: expected section.key=value, for example stage1.epochs=3.")
            nested: Any = _read_value(value.strip())
            for part in reversed(key.strip().split(".")):
                nested = {part: nested}
            _overlay(merged, nested, assignment[:160])
        try:
            return type(self).model_validate(merged)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error

    def save(self, path: Path) -> None:
        """Write the settings as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


MOVED = {
    "llm.compiled": "runtime.compiled",
    "llm.cache_memory": "runtime.text_memory",
    "fit_collaborative.micro_batch_size": "runtime.sequential_micro_batch",
    "stage1.micro_batch_size": "runtime.laser_micro_batch",
    "stage2.micro_batch_size": "runtime.laser_micro_batch",
    **{f"{fit}.checkpoint_seconds": "runtime.checkpoint_seconds" for fit in ("fit_collaborative", "stage1", "stage2")},
    **{f"score.{start}": "a constant, for it is trained" for start in ("trust", "nearness", "penalty")},
}
"""Settings of earlier versions that are refused, and what became of them."""
RENAMED = {"score.new_items": "cold_start_bonus"}
"""Settings of earlier versions that mean the same under another name, so that their runs and models are read."""


def _read_value(text: str) -> Any:  # noqa: ANN401 - whatever TOML holds
    if text in {"none", "null"}:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or numbers and brackets beyond all use, which are then refused as text
        return text


def _overlay(target: dict[str, Any], values: Mapping[str, Any], source: str, path: str = "") -> None:
    for old, value in values.items():
        key = RENAMED.get(f"{path}{old}", old)
        if key not in target:
            name = path + str(key)
            moved = f"{name!r} is now {MOVED[name]}" if name in MOVED else f"unknown setting {shown(name)}"
            raise ConfigError(f"{source}: {moved}; allowed here are {', '.join(sorted(target))}.")
        if isinstance(target[key], dict):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{source}: {path + key!r} is a section; received {shown(value)}, set one of {', '.join(sorted(target[key]))}."
                )
            _overlay(target[key], value, source, f"{path}{key}.")
        else:
            target[key] = value


SHOWN_PROBLEMS = 10
"""Wrong settings that a message names."""


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg'].replace('valid tuple', 'list in brackets')} "
        f"(received {shown(problem['input'])})"
        for problem in error.errors()[:SHOWN_PROBLEMS]
    )


PAPER: dict[str, Any] = {
    "prompt": {"order": "prefix_first", "instruction": PAPER_INSTRUCTION, "line": ">> {number}. {text}\n"},
    "virtual": {"prefix_length": 32, "start": "random"},
    "mformer": {"experts": 8, "width": 768, "heads": 12, "blocks": 12, "routing": "paper", "drop_state": 0.0},
    "score": {
        "temperature": 0.05,
        "learn_temperature": False,
        "standardise": False,
        "linear_read_out": False,
        "nearest": False,
        "lexical": False,
        "fuse_collaborative": False,
        "seen_penalty": False,
        "calibrate": False,
    },
    "collaborative": {
        "model": "bert4rec",
        "items": "id",
        "width": 64,
        "blocks": 2,
        "heads": 2,
        "dropout": 0.1,
        "seen_penalty": False,
        "hold_out": 0,
    },
    # Silent in the paper: what BERT4Rec needs (baselines/sequential.py).
    "fit_collaborative": {"batch_size": 256, "learning_rate": 3e-3, "patience": 6, "patience_steps": 160, "epochs": 250},
    "stage1": {"epochs": 15, "patience": 15, "batch_size": 4, "learning_rate": 1e-4},
    "stage2": {"epochs": 5, "patience": 5, "batch_size": 4, "learning_rate": 1e-4},
}
