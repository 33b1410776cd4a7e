"""The frozen language model: tokens to embeddings, embeddings to last-layer states.

Works with any decoder that transformers loads (`inputs_embeds`); the text-once engine (`decoder.py`) needs more and says so.
Knows nothing of items, users or virtual tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from laserrec.assets.hub import hub_out_of_reach
from laserrec.config import Weights
from laserrec.errors import AssetError, ConfigError
from laserrec.llm.folder import check_llm_folder, check_loaded
from laserrec.llm.kernels import can_compile
from laserrec.llm.packed import pack
from laserrec.llm.processor import fast_bfloat16
from laserrec.llm.quantised import quantise
from laserrec.llm.support import unsupported_reason
from laserrec.system.devices import CPU

LAYER_LISTS = ("layers", "h", "blocks")
CAUSAL = "Choose a decoder for llm.model, such as a Llama, Qwen, Mistral or GPT-2."


class Backbone:
    """A language model without its head, all of whose weights are frozen.

    Attributes:
        model: the transformers decoder, in evaluation mode, no weight of which asks for a gradient.
        tokenizer: its tokenizer.
        width: H, the width of its states.
        compiled: run the elementwise kernels of `RotaryDecoder` through `torch.compile`.
    """

    compiled = False

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, layers: int | None = None) -> None:
        """Freeze a model.

        Args:
            model: a decoder without head, `AutoModel`.
            tokenizer: the model's.
            layers: keep this many decoder layers from the bottom; all when None.

        Raises:
            ConfigError: `layers` exceeds what the model has, its layers cannot be found, or it is no causal decoder.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self._fingerprint: str | None = None
        self._widened_from: torch.dtype | None = None
        self.width: int = model.get_input_embeddings().weight.shape[1]
        if layers is not None:
            _keep_layers(model, layers)
        if unsupported_reason(model):  # else it is of a kind that is known to be causal
            _require_causal(model)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        layers: int | None = None,
        dtype: str = "bfloat16",
        weights: Weights = "full",
        compiled: bool = False,
        device: torch.device = CPU,
    ) -> Backbone:
        """Load a folder of a transformers model; the hub is never asked, and no code of the folder is run.

        Args:
            path: the folder.
            layers: keep this many decoder layers from the bottom; all when None.
            dtype: of the weights and of the arithmetic; the arithmetic is float32 where the processor is slow at bfloat16.
            weights: how the linear layers' weights are kept; `full` is as `dtype`.
            compiled: compile the elementwise kernels, where a compiler is at hand.
            device: where the model reads.

        Raises:
            ConfigError: `layers` or `weights` does not fit the model.
            AssetError: it cannot be found or loaded, lacks weights, or reaches beyond itself; pickle is never read.
        """
        transformers.utils.logging.disable_progress_bar()
        try:
            check_llm_folder(Path(path))
            model, tokenizer = _read(Path(path), dtype)
        except AssetError as error:
            raise AssetError(f"Cannot load the language model {str(path)!r}: {error}") from error
        backbone = cls(model, tokenizer, layers)
        if weights != "full":
            quantise(backbone.model, weights, device)
        if device.type == "cpu" and backbone.dtype == torch.bfloat16 and not fast_bfloat16():
            backbone.widen()
        backbone.model.to(device)
        backbone.compiled = compiled and can_compile(device)
        return backbone

    def widen(self) -> None:
        """Compute in float32 from here on, with the values that the weights have."""
        self.fingerprint()  # of the weights as they came
        self._widened_from = self.dtype
        self.model.float()

    def for_reading(self) -> Backbone:
        """Lay weights on the CPU out for it, in place: faster with few rows, and without gradients from here on."""
        self.fingerprint()  # of the weights as they came
        pack(self.model)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Type of the arithmetic, and of the weights in memory that are not quantised."""
        return self.embeddings.weight.dtype

    @property
    def storage_dtype(self) -> torch.dtype:
        """Type in which encoded texts are kept: that of the weights as they were loaded."""
        return self._widened_from or self.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie and what is read must be."""
        return self.embeddings.weight.device

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding table [vocabulary, H]."""
        table = self.model.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the tokenizer knows."""
        return len(self.tokenizer)

    def tokenize(self, text: str, limit: int | None = None) -> list[int]:
        """Return the token ids of a text, without special tokens, cut to `limit`."""
        ids: list[int] = self.tokenizer(text[: self.letters(limit)], add_special_tokens=False)["input_ids"]
        return ids[:limit]

    def tokenize_all(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """Return the token ids of every text, as `tokenize` does."""
        if not texts:
            return []
        letters = self.letters(limit)
        rows: list[list[int]] = self.tokenizer([text[:letters] for text in texts], add_special_tokens=False)["input_ids"]
        return [row[:limit] for row in rows]

    def letters(self, limit: int | None) -> int | None:
        """Return how many letters of a text its first `limit` tokens can depend on; None where all are read.

        No token is longer than the longest of the vocabulary. Twice as many letters are kept, because the last tokens before a cut may
        differ from those of the whole text.
        """
        return None if limit is None else 2 * (limit + 1) * self._longest_token

    @cached_property
    def _longest_token(self) -> int:
        return max(map(len, self.tokenizer.get_vocab()), default=1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Look tokens int64 [...], of any device, up in the embedding table: [..., H]."""
        return self.embeddings(tokens.to(self.device))  # type: ignore[no-any-return]

    def end_embedding(self) -> Tensor:
        """Return the embedding [H] of the end-of-sequence token.

        Raises:
            ConfigError: the tokenizer has none.
        """
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ConfigError(
                "virtual.read_out = 'last' reads the end-of-sequence token, and this model's tokenizer has none; use 'suffix' or 'mean'."
            )
        return self.embed(torch.tensor(int(end)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Run embeddings [B, T, H] through all layers, causally, without padding mask: last-layer states [B, T, H].

        Rows are padded on the right: a causal model never lets a real token see what stands after it.
        """
        return self.model(inputs_embeds=inputs, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def fingerprint(self) -> str:
        """Return a sha256 over the configuration, the tokenizer and every weight, in hexadecimal; two equal models share it.

        It is computed once: what is frozen does not change.
        """
        if self._fingerprint is None:
            about = {"model": _architecture(self.model), "tokenizer": _tokenization(self.tokenizer)}
            digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
            for name, weight in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


def _read(folder: Path, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a checked folder through transformers, and refuse weights that do not fill the model."""
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        with hub_out_of_reach():
            model, info = AutoModel.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True, **options
            )
            check_loaded(folder, info)
            return model, AutoTokenizer.from_pretrained(folder, **options)
    except AssetError:
        raise
    except Exception as error:  # wrong settings reach deep into transformers, where they raise errors of any kind
        raise AssetError(f"{type(error).__name__}: {error}") from error


def _architecture(model: PreTrainedModel) -> dict[str, Any]:
    keys = (
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "rope_parameters",
        "rms_norm_eps",
    )
    return {key: getattr(model.config, key, None) for key in keys}


def _tokenization(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """Return how texts become tokens; None for a tokenizer written in Python, which has no such description."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        return None
    described: dict[str, Any] = json.loads(inner.to_str())
    # These two are set anew by every call.
    return {key: value for key, value in described.items() if key not in {"padding", "truncation"}}


@torch.no_grad()
def _require_causal(model: PreTrainedModel) -> None:
    """Refuse a model whose states depend on what comes later: padding would be read, and a text read otherwise beside a longer one."""
    # Two rows of three tokens that differ in the last one.
    inputs = model.get_input_embeddings().weight[:3].expand(2, -1, -1).clone()
    inputs[1, 2] += torch.linspace(-1, 1, inputs.shape[-1], dtype=inputs.dtype)
    try:
        states = model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, :2].float()
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"A {model.config.model_type!r} model cannot be read as a decoder of embeddings: {error} {CAUSAL}") from error
    if states.isfinite().all() and not torch.allclose(states[0], states[1], rtol=1e-2, atol=1e-3 * float(states.abs().max())):
        raise ConfigError(f"In a {model.config.model_type!r} model what stands after a token changes its state. {CAUSAL}")


def _keep_layers(model: PreTrainedModel, count: int) -> None:
    for name in LAYER_LISTS:
        layers = getattr(model, name, None)
        if isinstance(layers, nn.ModuleList):
            if count > len(layers):
                raise ConfigError(f"llm.layers = {count}, but the model has {len(layers)}; choose at most that many.")
            setattr(model, name, layers[:count])
            model.config.num_hidden_layers = count
            return
    raise ConfigError(f"llm.layers is set, but the layers of a {type(model).__name__} could not be found; leave it unset for this model.")
