"""The text-once engine against the whole prompt through transformers, and against a plain reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plain
import pytest
import tiny
import torch
from torch import Tensor

from laserrec.errors import ConfigError
from laserrec.laser.prefix_first import PrefixFirst
from laserrec.laser.read_outs import ReadOutName
from laserrec.laser.text_first import TextFirst
from laserrec.llm.backbone import Backbone
from laserrec.llm.decoder import RotaryDecoder
from laserrec.text_cache import encoder as text_blocks
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.encoder import Encoder

BUILT = {kind: tiny.backbone(kind) for kind in tiny.ROTARY}
INSTRUCTION = BUILT["qwen2"].tokenize("Buys:\n")
LINES = BUILT["qwen2"].tokenize_all([">> Ruler\n", ">> Oak desk (brand: B1)\n", ">> Ink\n", ">> Lamp x\n", "", ">> Pen\n"])
HISTORIES = [[0, 1, 3], [2], [5, 5, 1, 0], [3, 2]]


@pytest.fixture(params=tiny.ROTARY)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def llm(kind: str) -> Backbone:
    return BUILT[kind]


def virtual_tokens(rows: int, count: int = 4) -> Tensor:
    return (torch.randn(rows, count, tiny.WIDTH, generator=torch.Generator().manual_seed(count)) * 0.3).requires_grad_()


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal in float32: transformers itself is about 1e-6 from its own float64."""
    assert actual.shape == expected.shape
    assert (actual - expected).detach().norm() <= 1e-5 * expected.detach().norm()


def gradient(embeddings: Tensor, virtual: Tensor) -> Tensor:
    """Gradient of a function of the embeddings that treats no two coordinates alike."""
    weights = torch.linspace(-1, 2, embeddings.numel(), dtype=embeddings.dtype).view_as(embeddings)
    (found,) = torch.autograd.grad((embeddings * weights).sum(), virtual, retain_graph=True)
    return found


def check_values_and_gradients(reader: TextFirst, history: list[int], expected: Tensor, virtual: Tensor) -> None:
    own = virtual.detach().clone().requires_grad_()
    embedding = reader.read(*tiny.batch([history]), own)
    close(embedding, expected)
    close(gradient(embedding, own), gradient(expected, virtual))


@pytest.mark.parametrize("instruction", [INSTRUCTION, []])
def test_one_item_is_the_whole_prompt(llm: Backbone, instruction: list[int]) -> None:
    virtual = virtual_tokens(1)
    text = llm.embed(torch.tensor([[*instruction, *LINES[1]]]))
    whole = llm.forward(torch.cat([text, virtual], dim=1))[:, -1]
    check_values_and_gradients(TextFirst(TextCache(llm, instruction, LINES), "suffix"), [1], whole, virtual)


def test_several_items_are_a_prompt_with_a_block_mask(llm: Backbone) -> None:
    check_several_items(llm)


def check_several_items(llm: Backbone) -> None:
    history, virtual = [0, 5, 1, 0], virtual_tokens(1)
    tokens = [token for item in history for token in LINES[item]]
    block = torch.tensor([number for number, item in enumerate(history) for _ in LINES[item]] + [-1] * 4)
    length = len(block)
    sees = torch.ones(length, length, dtype=torch.bool).tril() & ((block[:, None] == block) | (block[:, None] == -1))
    inputs = torch.cat([llm.embed(torch.tensor([tokens])), virtual], dim=1)
    mask = torch.zeros(1, 1, length, length).masked_fill(~sees, torch.finfo(torch.float32).min)
    places = torch.arange(length)[None]
    states = llm.model(inputs_embeds=inputs, attention_mask=mask, position_ids=places, use_cache=False).last_hidden_state
    check_values_and_gradients(TextFirst(TextCache(llm, [], LINES), "suffix"), history, states[:, -1], virtual)


def test_instruction_and_several_items_are_the_plain_reference(llm: Backbone) -> None:
    history, virtual = [5, 0], virtual_tokens(1, 3)
    states = plain.read(llm.model, INSTRUCTION, [LINES[item] for item in history], virtual[0])
    check_values_and_gradients(TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix"), history, states[None, -1], virtual)
    mean = TextFirst(TextCache(llm, INSTRUCTION, LINES), "mean")
    check_values_and_gradients(mean, history, states.mean(0, keepdim=True), virtual)


def test_the_plain_reference_is_the_model_where_the_two_agree(llm: Backbone) -> None:
    virtual = virtual_tokens(1, 2)
    whole = llm.forward(torch.cat([llm.embed(torch.tensor([[*INSTRUCTION, *LINES[0]]])), virtual], dim=1))
    close(whole[0, -2:], plain.read(llm.model, INSTRUCTION, [LINES[0]], virtual[0]))


def test_position_matters(llm: Backbone) -> None:
    reader, virtual = TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix"), virtual_tokens(1)
    forth, back = (reader.read(*tiny.batch([history]), virtual) for history in ([0, 1, 3], [3, 1, 0]))
    assert not torch.allclose(forth, back, atol=1e-3)


def gather(cache: TextCache, items: Sequence[int]) -> None:
    """Have the texts of some items in memory."""
    cache.gather(torch.tensor(items)[:, None], torch.ones(len(items), 1, dtype=torch.bool))


def test_however_the_cache_was_filled(llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, mask = tiny.batch(HISTORIES)
    virtual = virtual_tokens(len(HISTORIES))
    at_once = TextCache(llm, INSTRUCTION, LINES)
    gather(at_once, range(len(LINES)))
    expected = TextFirst(at_once, "suffix").read(items, mask, virtual)

    one_by_one = TextCache(llm, INSTRUCTION, LINES)
    for item in (3, 0, 0, 5, 1, 4, 2):
        gather(one_by_one, [item])
    few = TextCache(llm, INSTRUCTION, LINES[:2])
    gather(few, [1])
    extended = few.extended(LINES[2:])
    kept = TextCache(llm, INSTRUCTION, LINES)
    kept.open(DiskStore.under(tmp_path), writes=True)
    kept.build()
    loaded = TextCache(llm, INSTRUCTION, LINES)
    loaded.open(DiskStore.under(tmp_path), writes=False)
    on_demand = TextCache(llm, INSTRUCTION, LINES)
    monkeypatch.setattr(text_blocks, "ENCODE_TOKENS", 1)
    single = TextCache(llm, INSTRUCTION, LINES)
    gather(single, range(len(LINES)))
    for cache in (one_by_one, extended, kept, loaded, on_demand, single):
        close(TextFirst(cache, "suffix").read(items, mask, virtual), expected)
        assert len(cache) == len(LINES)
    assert torch.equal(TextFirst(loaded, "suffix").read(items, mask, virtual), expected)
    assert not loaded.missing


def test_nothing_is_encoded_twice(llm: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TextCache(llm, INSTRUCTION, LINES)
    encoded, encode = list[int](), Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, texts, *rest: (encoded.append(len(texts)), encode(self, texts, *rest))[1])
    for items, new in (([1, 1, 3], [2]), ([3, 4, 1], []), ([3, 0, 1, 5], [2])):
        encoded.clear()
        gather(cache, items)
        assert encoded == new


def test_other_lists_of_texts_read_the_same() -> None:
    cache = TextCache(BUILT["qwen2"], INSTRUCTION, LINES)
    virtual = virtual_tokens(1)
    expected = TextFirst(cache, "suffix").read(*tiny.batch([[0, 3]]), virtual)
    other = cache.take(torch.tensor([0, 1, 2])).extended([LINES[5], LINES[3]])
    assert (len(other), len(cache)) == (5, len(LINES))
    close(TextFirst(other, "suffix").read(*tiny.batch([[0, 4]]), virtual), expected)


def test_alone_as_in_a_batch_of_longer_ones(llm: Backbone) -> None:
    reader, virtual = TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix"), virtual_tokens(len(HISTORIES))
    together = reader.read(*tiny.batch(HISTORIES, longest=7, fill=4), virtual)
    for row, history in enumerate(HISTORIES):
        close(reader.read(*tiny.batch([history]), virtual[row : row + 1]), together[row : row + 1])
    gapped = torch.tensor([[9, 0, 9, 1, 3]]) % 6, torch.tensor([[False, True, False, True, True]])
    close(reader.read(*gapped, virtual[:1]), together[:1])


@pytest.mark.parametrize("instruction", [INSTRUCTION, []])
def test_histories_without_text(llm: Backbone, instruction: list[int]) -> None:
    reader, virtual = TextFirst(TextCache(llm, instruction, LINES), "suffix"), virtual_tokens(2)
    start = llm.embed(torch.tensor(instruction, dtype=torch.int64)).expand(2, -1, -1)
    expected = llm.forward(torch.cat([start, virtual], dim=1))[:, -1]
    for items, mask in (tiny.batch([[], []]), tiny.batch([[], []], longest=3), tiny.batch([[4], [4, 4]])):
        close(reader.read(items, mask, virtual), expected)


def test_suffix_alone(llm: Backbone) -> None:
    virtual = virtual_tokens(1, 1)
    whole = llm.forward(torch.cat([llm.embed(torch.tensor([[*INSTRUCTION, *LINES[3]]])), virtual], dim=1))[:, -1]
    check_values_and_gradients(TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix"), [3], whole, virtual)


def test_fewer_layers(kind: str, llm: Backbone) -> None:
    short, virtual = tiny.backbone(kind, keep=1), virtual_tokens(1)
    inputs = torch.cat([llm.embed(torch.tensor([[*INSTRUCTION, *LINES[3]]])), virtual], dim=1)
    states = llm.model(inputs_embeds=inputs, use_cache=False, output_hidden_states=True).hidden_states[1]
    expected = llm.model.norm(states)[:, -1]
    assert short.fingerprint() != llm.fingerprint()
    close(short.forward(inputs)[:, -1], expected)
    check_values_and_gradients(TextFirst(TextCache(short, INSTRUCTION, LINES), "suffix"), [3], expected, virtual)


def test_only_rotary_positions() -> None:
    with pytest.raises(ConfigError, match=r"rotary.*'gpt2'.*prefix_first"):
        TextCache(tiny.backbone("gpt2"), INSTRUCTION, LINES)
    with pytest.raises(ConfigError, match="rotary"):
        tiny.system(kind="gpt2")


@pytest.mark.parametrize(
    ("kind", "window"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
    ],
)
def test_windowed_attention_is_refused(kind: str, window: dict[str, int | bool]) -> None:
    with pytest.raises(ConfigError, match="windowed"):
        RotaryDecoder(tiny.backbone(kind, **window).model)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("scaling", [LLAMA3, YARN, {"rope_type": "linear", "factor": 4.0}], ids=lambda scaling: scaling["rope_type"])
def test_scaled_positions(scaling: dict[str, Any]) -> None:
    scaled = tiny.backbone(rope_parameters=scaling | {"rope_theta": 10_000.0}, max_position_embeddings=64)
    together, plainly = (model.model.rotary_emb(torch.zeros(1), torch.arange(64)[None])[0] for model in (scaled, tiny.backbone()))
    assert not torch.allclose(together, plainly, atol=1e-2)
    check_several_items(scaled)


LONG = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}


@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize(("scaling", "factors"), [("dynamic", {"factor": 4.0}), ("longrope", LONG)])
def test_positions_that_depend_on_the_length_are_refused(name: str, key: str, scaling: str, factors: dict[str, Any]) -> None:
    llm = tiny.backbone(max_position_embeddings=16, **{name: {key: scaling, "rope_theta": 10_000.0, **factors}})
    with pytest.raises(ConfigError, match=rf"text_first' needs .* length .* '{scaling}'.*prefix_first"):
        TextCache(llm, INSTRUCTION, LINES)
    # The other order is transformers' own forward.
    virtual, text = virtual_tokens(1), llm.embed(torch.tensor([LINES[1]]))
    expected = llm.forward(torch.cat([virtual[:, :-1], text, virtual[:, -1:]], dim=1))[:, -1]
    close(PrefixFirst(llm, [], lambda item, _: LINES[item], "suffix").read(*tiny.batch([[1]]), virtual), expected)


def test_too_many_layers() -> None:
    with pytest.raises(ConfigError, match=r"llm\.layers = 3, but the model has 2"):
        tiny.backbone(keep=3)


@pytest.mark.parametrize("kind", [*tiny.ROTARY, "gpt2"])
@pytest.mark.parametrize("read_out", ["suffix", "mean", "last"])
def test_prefix_first_is_the_whole_prompt(kind: str, read_out: ReadOutName) -> None:
    llm = BUILT.get(kind) or tiny.backbone(kind)
    virtual = virtual_tokens(len(HISTORIES))
    numbered = [[[*line, number] for number in range(9)] for line in LINES]
    reader = PrefixFirst(llm, INSTRUCTION, lambda item, number: numbered[item][number], read_out)
    own = virtual.detach().clone().requires_grad_()
    together = reader.read(*tiny.batch(HISTORIES, longest=6, fill=5), own)
    rows = []
    for row, history in enumerate(HISTORIES):
        text = [*INSTRUCTION, *(token for number, item in enumerate(history, 1) for token in (*LINES[item], number))]
        prompt = torch.cat([virtual[row, :-1], llm.embed(torch.tensor(text)), virtual[row, -1:]])
        states = llm.forward(prompt[None])[0]
        rows.append(states.mean(0) if read_out == "mean" else states[-1])
    close(together, torch.stack(rows))
    close(gradient(together, own), gradient(torch.stack(rows), virtual))


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_prefix_first_without_text(kind: str) -> None:
    llm = BUILT.get(kind) or tiny.backbone(kind)
    reader, virtual = PrefixFirst(llm, [], lambda item, _: LINES[item], "suffix"), virtual_tokens(2)
    close(reader.read(*tiny.batch([[], []]), virtual), llm.forward(virtual)[:, -1])
    close(reader.read(*tiny.batch([[], [0]]), virtual)[:1], llm.forward(virtual[:1])[:, -1])


def test_the_two_orders_differ() -> None:
    llm, virtual = BUILT["qwen3"], virtual_tokens(1)
    first = TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix").read(*tiny.batch([[0, 1]]), virtual)
    second = PrefixFirst(llm, INSTRUCTION, lambda item, _: LINES[item], "suffix").read(*tiny.batch([[0, 1]]), virtual)
    assert not torch.allclose(first, second, atol=1e-2)


def test_bfloat16_stays_near_float32() -> None:
    exact, rough = tiny.backbone("llama-grouped"), tiny.backbone("llama-grouped")
    rough.model.to(torch.bfloat16)
    virtual = virtual_tokens(len(HISTORIES))
    full, half = (TextFirst(TextCache(llm, INSTRUCTION, LINES), "suffix").read(*tiny.batch(HISTORIES), virtual) for llm in (exact, rough))
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full, half).min() > 0.99
