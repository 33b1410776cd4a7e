"""Conversion of a GGUF file, against transformers' own loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from laserrec.assets import ASSETS, cache_folder, fetched_folder
from laserrec.errors import AssetError
from laserrec.llm.gguf import convert, resolve_llm

WIDTH, INNER, LAYERS, HEADS, KEY_VALUE_HEADS = 96, 160, 2, 3, 1
HEAD_WIDTH = WIDTH // HEADS
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Byte-level BPE writes a space as Ġ; "ab" is the one merge.
TOKENS = (*SPECIAL, "a", "b", "Ġ", "1", "2", "ab", "ĠĠ")
MERGES = ("a b", "Ġ Ġ")


def write_gguf(path: Path, *, architecture: str = "llama", with_head: bool = False, extra_tensor: str | None = None) -> None:
    """Write a two-layer Llama with random weights, quantized as SmolLM2's file is."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_freq_base(100_000.0)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(list(TOKENS))
    writer.add_token_types([3 if token in SPECIAL else 1 for token in TOKENS])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    generator = np.random.default_rng(0)

    def add(name: str, *shape: int, kind: GGMLQuantizationType = GGMLQuantizationType.Q4_1) -> None:
        values: NDArray[np.float32] = generator.normal(0, 0.3, shape).astype(np.float32)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(TOKENS), WIDTH, kind=GGMLQuantizationType.Q8_0)
    add("output_norm.weight", WIDTH, kind=GGMLQuantizationType.F32)
    if with_head:
        add("output.weight", len(TOKENS), WIDTH, kind=GGMLQuantizationType.Q8_0)
    if extra_tensor:
        add(extra_tensor, WIDTH, WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", WIDTH, kind=GGMLQuantizationType.F32)
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
            ("attn_v", KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", INNER, WIDTH),
            ("ffn_up", INNER, WIDTH),
            ("ffn_down", WIDTH, INNER),
        ):
            add(f"blk.{layer}.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "gguf" / "tiny.gguf"
    path.parent.mkdir()
    write_gguf(path)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "converted"
    path.mkdir()
    return path


def test_weights_and_states_are_those_of_transformers_own_loader(source: Path, target: Path) -> None:
    convert(source, target)
    ours = AutoModel.from_pretrained(target, dtype=torch.bfloat16)
    theirs = AutoModel.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.state_dict().items())
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(ours(tokens).last_hidden_state, theirs(tokens).last_hidden_state)


def test_settings_come_from_the_file(source: Path, target: Path) -> None:
    convert(source, target)
    config = AutoModel.from_pretrained(target).config
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (WIDTH, INNER, LAYERS)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (HEADS, KEY_VALUE_HEADS, HEAD_WIDTH)
    assert config.rope_parameters["rope_theta"] == 100_000.0
    assert (config.eos_token_id, config.pad_token_id) == (2, 2)
    assert config.tie_word_embeddings
    assert config.dtype == torch.bfloat16


def test_a_head_of_its_own_is_kept(source: Path, target: Path) -> None:
    write_gguf(source, with_head=True)
    convert(source, target)
    assert not AutoModel.from_pretrained(target).config.tie_word_embeddings


def test_tokenizer_pads_with_the_end_token_and_keeps_digits_apart(source: Path, target: Path) -> None:
    convert(source, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")
    # The digit is cut off first, so that both spaces stand together before it; GPT-2's rule alone would give the digit one of them.
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab  12")["input_ids"]) == ["ab", "ĠĠ", "1", "2"]


def test_another_architecture_is_refused(source: Path, target: Path) -> None:
    write_gguf(source, architecture="falcon")
    with pytest.raises(AssetError, match="architecture 'falcon'; only 'llama'"):
        convert(source, target)


def test_a_tensor_without_counterpart_is_refused(source: Path, target: Path) -> None:
    write_gguf(source, extra_tensor="blk.0.ffn_gate_inp.weight")
    with pytest.raises(AssetError, match=r"'blk\.0\.ffn_gate_inp\.weight', which has no counterpart"):
        convert(source, target)


def test_a_folder_is_itself_and_a_repository_must_be_called_one(tmp_path: Path) -> None:
    assert resolve_llm(str(tmp_path)) == tmp_path
    with pytest.raises(AssetError, match=r"'org/model': there is no such folder\..* written hf:owner/name"):
        resolve_llm("org/model")


def test_the_asset_is_converted_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    asset = ASSETS[0]
    fetched_folder(asset).mkdir(parents=True)
    (fetched_folder(asset) / source.name).write_bytes(source.read_bytes())
    converted = resolve_llm(asset.name)
    assert isinstance(converted, Path)
    assert converted.parent == cache_folder()
    written = (converted / "model.safetensors").stat().st_mtime_ns
    assert resolve_llm(asset.name) == converted
    assert (converted / "model.safetensors").stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.network
def test_smollm2_is_transformers_own() -> None:
    asset = ASSETS[0]
    ours = AutoModel.from_pretrained(resolve_llm(asset.name), dtype=torch.bfloat16).state_dict()
    (source,) = fetched_folder(asset).glob("*.gguf")
    theirs = AutoModel.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.bfloat16).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
