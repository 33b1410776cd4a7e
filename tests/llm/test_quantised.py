"""Frozen weights in 8 and 4 bits: how far they may be off, exact gradients to the inputs, and a whole Laser around them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import small_shop
import tiny
import torch
from torch import Tensor, nn

from laserrec import Laser
from laserrec.config import LaserConfig
from laserrec.errors import ConfigError
from laserrec.llm.backbone import Backbone
from laserrec.llm.decoder import RotaryDecoder
from laserrec.llm.quantised import NF4, QuantisedLinear, Storage, quantise

STORAGES: tuple[Storage, ...] = get_args(Storage)
each_storage = pytest.mark.parametrize("storage", STORAGES)


def linear(outputs: int, inputs: int, *, bias: bool = True, scale: float = 1.0, seed: int = 0) -> nn.Linear:
    """A layer whose rows differ in size by orders of magnitude, as those of language models do."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        sizes = torch.rand(outputs, 1, generator=generator).mul_(4).exp_() * scale
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) * sizes)
        if bias:
            layer.bias.copy_(torch.randn(outputs, generator=generator))
    return layer.requires_grad_(requires_grad=False)


def bounds(weight: Tensor, storage: Storage) -> Tensor:
    """How far a weight [O, I] may be from what is stored, float64 [O, I], worked out by hand.

    A scale is rounded to bfloat16, so it is at most 2⁻⁸ off. int8: half a step, of which 127 make the row's largest. fp8: e4m3 has 3 bits
    after the leading one, so half a unit is 2⁻⁴ of a number, and 2⁻¹⁰ below the normal numbers; 448 of these units make the largest.
    nf4: half the widest gap, from -1 to -0.6962, of the block's largest.
    """
    weight = weight.double()
    if storage == "nf4":
        blocks = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
        largest = blocks.abs().amax(1, keepdim=True).expand_as(blocks).flatten()[: weight.numel()].view_as(weight)
        bound = (1 - 0.6961928) / 2 * largest
    else:
        largest = weight.abs().amax(1, keepdim=True).expand_as(weight)
        bound = largest / 127 / 2 if storage == "int8" else torch.maximum(weight.abs() * 2**-4, largest / 448 * 2**-10)
    return bound * (1 + 2**-8 + 1e-6)


def unquantised(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of a model with plain linear layers instead of the quantised ones, with the same weights."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, QuantisedLinear):
                plain = nn.Linear(child.shape[1], child.shape[0], bias=child.bias is not None, dtype=dtype)
                plain.weight = nn.Parameter(child.dequantised(dtype), requires_grad=False)
                if child.bias is not None:
                    plain.bias = nn.Parameter(child.bias.to(dtype), requires_grad=False)
                setattr(parent, name, plain)
    return model


def quantised_backbone(storage: Storage, kind: str = "llama-grouped", **changes: Any) -> Backbone:  # noqa: ANN401
    backbone = tiny.backbone(kind, **changes)
    quantise(backbone.model, storage)
    return backbone


def close(found: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    assert (found - expected).abs().max() <= relative * expected.abs().max()


def test_int8_by_hand() -> None:
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0, 3.4, -3.6, 0.2], [0.0, 0.0, 0.0, 0.0]]) / 32)
    packed = QuantisedLinear(layer, "int8")
    assert packed.codes.tolist() == [[127, 3, -4, 0], [0, 0, 0, 0]]
    assert packed.scales.tolist() == [1 / 32, 0]
    assert packed.dequantised(torch.float64).tolist() == [[127 / 32, 3 / 32, -4 / 32, 0], [0, 0, 0, 0]]


def test_fp8_by_hand() -> None:
    """Between 16 and 32, e4m3 counts in twos; 17 and 19 lie half-way and go to the even significand, 16 and 20."""
    layer = nn.Linear(6, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[448.0, -16.0, 17.0, 19.0, 21.5, 0.0]]) / 4)
    packed = QuantisedLinear(layer, "fp8")
    assert packed.codes.dtype == torch.uint8
    assert packed.dequantised(torch.float32).tolist() == [[112, -4, 4, 5, 5.5, 0]]


def test_nf4_values_are_the_quantiles_of_the_paper() -> None:
    """QLoRA's construction: eight quantiles above zero, seven below, and zero, from an outermost probability of 0.9677083."""
    outermost = 0.9677083
    above = torch.special.ndtri(torch.linspace(outermost, 0.5, 9, dtype=torch.float64))[:-1]
    below = -torch.special.ndtri(torch.linspace(outermost, 0.5, 8, dtype=torch.float64))[:-1]
    values = torch.cat([above, torch.zeros(1, dtype=torch.float64), below]).sort().values
    assert torch.allclose(values / values.max(), torch.tensor(NF4, dtype=torch.float64), atol=1e-6)


def test_nf4_by_hand() -> None:
    """One block and a half: each has a scale of its own, and 0.87 is nearer to 1 (0.13) than to 0.723 (0.147)."""
    layer = nn.Linear(96, 1, bias=False)
    row = torch.zeros(96)
    row[:4] = torch.tensor([-2.0, 1.74, 0.1, -0.2])
    row[64:66] = torch.tensor([0.25, -0.01])
    with torch.no_grad():
        layer.weight.copy_(row[None])
    packed = QuantisedLinear(layer, "nf4")
    assert packed.codes.dtype == torch.uint8
    assert packed.codes[:2].tolist() == [0 << 4 | 15, 8 << 4 | 6]
    assert packed.codes[2:32].tolist() == [7 << 4 | 7] * 30
    assert packed.scales.tolist() == [2, 0.25]
    found = packed.dequantised(torch.float32)[0]
    assert torch.allclose(found[:4], 2 * torch.tensor([-1, 1, NF4[8], NF4[6]]))
    assert torch.equal(found[64:66], torch.tensor([0.25, 0.0]))


@each_storage
@pytest.mark.parametrize("scale", [1e-30, 0.02, 1e30])
@pytest.mark.parametrize("shape", [(5, 7), (48, 64), (33, 130)])
def test_what_is_stored_is_within_the_bound(storage: Storage, shape: tuple[int, int], scale: float) -> None:
    layer = linear(*shape, scale=scale)
    found = QuantisedLinear(layer, storage).dequantised(torch.float64)
    assert ((found - layer.weight.double()).abs() <= bounds(layer.weight, storage)).all()


@each_storage
def test_the_original_is_left_as_it_was(storage: Storage) -> None:
    layer = linear(6, 64)
    before = layer.weight.clone()
    QuantisedLinear(layer, storage)
    assert torch.equal(layer.weight, before)


@each_storage
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_within_the_bound(storage: Storage, bias: bool) -> None:
    """Against the full weight: the weights' bounds, times the inputs' magnitudes."""
    layer, inputs = linear(40, 96, bias=bias), torch.randn(3, 5, 96, generator=torch.Generator().manual_seed(1))
    found = QuantisedLinear(layer, storage)(inputs)
    assert found.shape == (3, 5, 40)
    slack = 1e-5 * (inputs.abs() @ layer.weight.abs().T)
    assert ((found - layer(inputs)).abs() <= inputs.abs().double() @ bounds(layer.weight, storage).T + slack).all()


@each_storage
@pytest.mark.parametrize("rows", [3, 40])
def test_bfloat16_rounds_little(storage: Storage, rows: int) -> None:
    """A weight is rounded at most twice on its way into a product, and a result three times, each by 2⁻⁹."""
    layer, inputs = linear(40, 128), torch.randn(rows, 128, generator=torch.Generator().manual_seed(1)).bfloat16()
    packed = QuantisedLinear(layer, storage)
    weight = packed.dequantised(torch.float64)
    exact = inputs.double() @ weight.T + layer.bias.double()
    found = packed(inputs)
    assert found.dtype == torch.bfloat16
    magnitudes = inputs.double().abs() @ weight.abs().T + layer.bias.double().abs()
    assert ((found.double() - exact).abs() <= 5 * 2**-9 * magnitudes).all()


@each_storage
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (2, 3, 7), (0, 7)])
def test_gradient_to_the_inputs(storage: Storage, bias: bool, shape: tuple[int, ...]) -> None:
    packed = QuantisedLinear(linear(5, 7, bias=bias), storage)
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(packed, (inputs,))
    assert not any(parameter.requires_grad for parameter in packed.parameters())


@each_storage
@pytest.mark.parametrize("kind", ["llama-grouped", "qwen2"])
def test_states_and_gradients_of_a_whole_model(storage: Storage, kind: str) -> None:
    """Those of the same model with the dequantised weights in plain layers; qwen2's have biases."""
    backbone = quantised_backbone(storage, kind)
    plain = Backbone(unquantised(backbone.model), backbone.tokenizer)  # type: ignore[arg-type]
    inputs = torch.randn(2, 9, tiny.WIDTH, generator=torch.Generator().manual_seed(5))
    positions = torch.arange(9).expand(2, -1)
    for run in (lambda llm, given: llm.forward(given), lambda llm, given: RotaryDecoder(llm.model).forward(given, positions)):
        found, expected = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
        states, true_states = run(backbone, found), run(plain, expected)
        weighting = torch.randn(states.shape, generator=torch.Generator().manual_seed(6))
        (states * weighting).sum().backward()
        (true_states * weighting).sum().backward()
        close(states, true_states)
        assert found.grad is not None
        assert expected.grad is not None
        close(found.grad, expected.grad)


@pytest.mark.parametrize(("storage", "least"), [("int8", 0.9995), ("fp8", 0.995), ("nf4", 0.9)])
def test_states_stay_close_to_those_of_full_weights(storage: Storage, least: float) -> None:
    inputs = torch.randn(4, 12, tiny.WIDTH, generator=torch.Generator().manual_seed(7))
    full, small = tiny.backbone().forward(inputs), quantised_backbone(storage).forward(inputs)
    cosine = nn.functional.cosine_similarity(full, small, dim=-1)
    assert cosine.mean() > least
    assert cosine.min() < 1 - 1e-7


@each_storage
def test_memory(storage: Storage) -> None:
    """8 bits a weight and 16 a row; 4 a weight and 16 for 64 of them: 48·32 weights are 24 blocks."""
    packed = QuantisedLinear(linear(48, 32, bias=False), storage)
    found = sum(tensor.nbytes for tensor in packed.state_dict().values())
    assert found == {"int8": 48 * 32 + 2 * 48, "fp8": 48 * 32 + 2 * 48, "nf4": 48 * 32 // 2 + 2 * 24}[storage]
    model = quantised_backbone(storage).model
    assert all(type(module) is not nn.Linear for module in model.modules())
    weights = [tensor.nbytes for name, tensor in model.state_dict().items() if name.startswith("layers") and "norm" not in name]
    full = [tensor.nbytes for name, tensor in tiny.backbone().model.state_dict().items() if "_proj" in name]
    assert sum(weights) < (0.27 if storage != "nf4" else 0.14) * sum(full)


@each_storage
def test_a_cast_of_the_module_keeps_the_codes(storage: Storage) -> None:
    """`module.to(dtype)` reaches floating buffers; the scales are exact in bfloat16 and so in every wider type."""
    packed = QuantisedLinear(linear(5, 64), storage)
    before = packed.dequantised(torch.float64)
    assert torch.equal(packed.double().dequantised(torch.float64), before)
    assert torch.equal(packed.bfloat16().dequantised(torch.float64), before)


@each_storage
def test_weights_that_are_not_finite_are_refused(storage: Storage) -> None:
    for wrong in (torch.nan, torch.inf):
        layer = linear(5, 64)
        layer.weight[2, 3] = wrong
        with pytest.raises(ConfigError, match=f"llm.weights = '{storage}' needs finite weights"):
            QuantisedLinear(layer, storage)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a GPT2Model has none; use llm.weights = 'full'"):
        quantise(tiny.backbone("gpt2").model, "int8")


def test_the_setting() -> None:
    assert LaserConfig().llm.weights == "full"
    for allowed in ("full", *STORAGES):
        assert LaserConfig().override([f"llm.weights={allowed}"]).llm.weights == allowed
    for refused in ("int4", "8", "none"):
        with pytest.raises(ConfigError, match=r"llm.weights: Input should be 'full', 'int8', 'nf4' or 'fp8'"):
            LaserConfig().override([f"llm.weights={refused}"])


def test_a_loaded_model_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other weights have another fingerprint, the same ones the same; the dtype of the arithmetic stays, as do embeddings and norms."""
    monkeypatch.setattr("laserrec.llm.backbone.fast_bfloat16", lambda: True)
    folder = small_shop.write_llm(tmp_path)
    full = Backbone.load(folder, dtype="bfloat16")
    marks = {full.fingerprint()}
    for storage in STORAGES:
        loaded = Backbone.load(folder, dtype="bfloat16", layers=1, weights=storage)
        assert loaded.dtype == torch.bfloat16
        assert loaded.model.dtype == torch.bfloat16
        assert torch.equal(loaded.embeddings.weight, full.embeddings.weight)
        assert torch.equal(loaded.model.norm.weight, full.model.norm.weight)
        assert len([module for module in loaded.model.modules() if isinstance(module, QuantisedLinear)]) == 7
        assert loaded.forward(loaded.embed(torch.arange(6)[None])).dtype == torch.bfloat16
        assert loaded.fingerprint() == Backbone.load(folder, dtype="bfloat16", layers=1, weights=storage).fingerprint()
        marks.add(loaded.fingerprint())
    assert len(marks) == 4


@pytest.mark.parametrize(
    ("order", "storage"), [("text_first", "int8"), ("prefix_first", "int8"), ("text_first", "nf4"), ("prefix_first", "fp8")]
)
def test_a_laser_is_trained_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, storage: str) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    folder = small_shop.write_llm(tmp_path / "llm")
    once = {"fit_collaborative.epochs=1", "stage1.epochs=1", "stage2.epochs=1", "collaborative.refits=[]"}
    config = small_shop.config(folder).override({f"llm.weights={storage}", f"prompt.order={order}", *once})
    laser = Laser.fit(small_shop.dataset(), config)
    laser.save(tmp_path / "model")
    again = Laser.load(tmp_path / "model")
    assert again.config.llm.weights == storage
    histories = [small_shop.IDS[:3], small_shop.IDS[5:6]]
    assert again.recommend(histories, k=5) == laser.recommend(histories, k=5)


@pytest.mark.gpu
@each_storage
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same(storage: Storage, dtype: torch.dtype) -> None:
    packed = QuantisedLinear(linear(40, 128), storage)
    inputs = torch.randn(6, 128, generator=torch.Generator().manual_seed(8)).to(dtype)
    here, there = inputs.clone().requires_grad_(), inputs.cuda().requires_grad_()
    found, expected = copy.deepcopy(packed).cuda()(there), packed(here)
    found.sum().backward()
    expected.sum().backward()
    assert here.grad is not None
    assert there.grad is not None
    for one, other in ((found, expected), (there.grad, here.grad)):
        close(one.cpu().float(), other.float(), 1e-4 if dtype == torch.float32 else 2**-6)
