"""Convert the default language model once from a quantized GGUF file to a folder that transformers loads in under a second.

transformers reads GGUF too, but dequantizes at every load. The weights here are bit-identical to what its loader gives, cast to bfloat16.
Covers the Llama architecture, which SmolLM2 has.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, dequantize
from numpy.typing import NDArray
from rich.console import Console
from tokenizers.pre_tokenizers import Digits, Sequence
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig

from laserrec.assets import ASSETS, Asset, build_once, cache_folder, fetch, fetched_folder
from laserrec.assets.hub import HUB, fetch_repository
from laserrec.errors import AssetError, shown
from laserrec.system.files import save_tensors

LLM_FILES, LLM_WITHOUT = ("*.json", "*.safetensors", "*.model", "*.txt"), ("*/*", "consolidated*")
"""Files of a repository that a language model is read from; folders inside hold it in other formats."""
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def resolve_llm(model: str) -> Path:
    """Return the folder of a language model that a setting names.

    Args:
        model: an asset name, a local folder, or `hf:owner/name`, a repository on the Hugging Face hub.

    Returns:
        The folder of the asset, fetched and converted on first use; the local folder; or that of the repository's files, fetched if needed.

    Raises:
        AssetError: there is no such model, or it cannot be fetched or converted.
    """
    if model.startswith(HUB):
        return fetch_repository(model.removeprefix(HUB), LLM_FILES, LLM_WITHOUT)
    folder = resolve_local(model)
    if folder is not None:
        return folder
    asset = next((asset for asset in ASSETS if asset.name == model and asset.kind == "llm"), None)
    if asset is None:
        raise AssetError(
            f"Cannot load the language model {shown(model)}: there is no such folder. Allowed are an asset name "
            "(`laserrec assets list`), a folder of a transformers model with weights in safetensors, or a repository on the Hugging "
            f"Face hub, which is written {HUB}owner/name."
        )
    converted = converted_folder(asset)
    with build_once(converted) as aside:
        if aside is not None:
            (source,) = fetch(asset.name).glob("*.gguf")
            with Console(stderr=True).status(f"Converting {asset.name}, this once"):
                convert(source, aside)
    return converted


def resolve_local(model: str) -> Path | None:
    """Return the local folder that a language model setting names; None where it names an asset, a repository or nothing."""
    assets = {asset.name for asset in ASSETS if asset.kind == "llm"}
    return Path(model) if model not in assets and not model.startswith(HUB) and Path(model).is_dir() else None


def converted_folder(asset: Asset) -> Path:
    """Return where a language model's weights lie once they are converted."""
    return cache_folder() / f"{fetched_folder(asset).name}-bfloat16"


def convert(source: Path, target: Path) -> None:
    """Write a GGUF file's weights (bfloat16), settings and tokenizer as a transformers folder.

    Args:
        source: a GGUF file of the Llama architecture.
        target: an existing folder.

    Raises:
        AssetError: the file has another architecture, or a tensor without a counterpart.
    """
    reader = GGUFReader(source)
    config = _config(reader, source)
    weights = {_rename(tensor.name, source): _weight(tensor, config) for tensor in reader.tensors}
    config.tie_word_embeddings = "lm_head.weight" not in weights
    save_tensors(target / "model.safetensors", weights, {"format": "pt"})
    config.save_pretrained(target)
    _save_tokenizer(source, target, digits_apart=_field(reader, "tokenizer.ggml.pre", default=None) == "smollm")


def _config(reader: GGUFReader, source: Path) -> LlamaConfig:
    architecture = _field(reader, "general.architecture", default=None)
    if architecture != "llama":
        raise AssetError(f"{source} holds the architecture {architecture!r}; only 'llama' can be converted.")
    heads = _field(reader, "llama.attention.head_count")
    eos = _field(reader, "tokenizer.ggml.eos_token_id")
    return LlamaConfig(
        vocab_size=len(_field(reader, "tokenizer.ggml.tokens")),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv", default=heads),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base", default=10_000.0)},
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id", default=None),
        eos_token_id=eos,
        pad_token_id=eos,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )


_REQUIRED = object()


def _field(reader: GGUFReader, name: str, default: Any = _REQUIRED) -> Any:  # noqa: ANN401 - whatever GGUF holds
    field = reader.get_field(name)
    if field is not None:
        return field.contents()
    if default is _REQUIRED:
        raise AssetError(f"The GGUF file has no field {name!r}, which its architecture needs.")
    return default


def _rename(name: str, source: Path) -> str:
    """Give a GGUF tensor its Hugging Face name: `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    matched = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    if matched is None or matched[2] not in _NAMES:
        raise AssetError(f"{source} holds a tensor {name!r}, which has no counterpart in transformers' Llama.")
    layer = f"model.layers.{matched[1]}." if matched[1] else ""
    return f"{layer}{_NAMES[matched[2]]}.weight"


def _weight(tensor: ReaderTensor, config: LlamaConfig) -> Tensor:
    values: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type)
    if ".attn_q." in tensor.name:
        values = _halves_first(values, config.num_attention_heads)
    elif ".attn_k." in tensor.name:
        values = _halves_first(values, config.num_key_value_heads)
    return torch.from_numpy(np.array(values)).to(torch.bfloat16)


def _halves_first(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo GGUF's order of a head's rows, where the two that rotate together are neighbours; Hugging Face keeps them half a head apart."""
    pairs = values.reshape(heads, -1, 2, values.shape[1])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _save_tokenizer(source: Path, target: Path, *, digits_apart: bool) -> None:
    """Save the tokenizer that transformers reads from the file, padding with the end token.

    transformers passes over GGUF's name of the pre-tokenizer; `smollm` is byte-level with every digit on its own.
    """
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    if digits_apart:
        inner = tokenizer.backend_tokenizer
        inner.pre_tokenizer = Sequence([Digits(individual_digits=True), inner.pre_tokenizer])
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(target)
