"""On a real CUDA device; run with `-m gpu`."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import small_shop
import tiny
import torch
from pairs import KINDS, ROWS, SECTIONS, Pair, batch, gradients, trained

from laserrec import Laser
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.mformer import MFormer
from laserrec.llm.kernels import can_compile
from laserrec.llm.quantised import QuantisedLinear, Storage

pytestmark = pytest.mark.gpu
gpu_attention = pytest.importorskip("laserrec.llm.triton_attention", reason="Triton is not installed")
CUDA = torch.device("cuda:0")


@pytest.mark.parametrize("variant", [*SECTIONS, *KINDS])
def test_the_same_weights_give_the_same_scores(variant: str) -> None:
    pair = Pair(variant, CUDA)
    there = pair.there.scores(*batch(CUDA))
    assert there.device == CUDA
    torch.testing.assert_close(there.cpu(), pair.here.scores(*batch(pair.here.device)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [*SECTIONS, *KINDS])
def test_every_trained_tensor_is_told_the_same(variant: str) -> None:
    pair = Pair(variant, CUDA)
    for laser in pair:
        if isinstance(laser.model.source, MFormer):
            laser.model.source.drop_state = 0.0  # devices draw differently
    expected, found = map(gradients, pair)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].cpu(), gradient, rtol=1e-3, atol=1e-4)


# Some versions of torch warn of themselves when they compile.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("held", [None, 0.00001])
def test_bfloat16_stays_near_float32(fused: bool, held: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads wide enough for the kernels that attend to cached texts, with and without room for all texts in memory."""
    attended: list[int] = []
    plain = gpu_attention.attend_blocks
    monkeypatch.setattr(gpu_attention, "attend_blocks", lambda *given: (attended.append(1), plain(*given))[1])
    for order in ("text_first", "prefix_first"):
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            llm = tiny.backbone("llama-grouped", head_dim=32)
            llm.model.to(CUDA, dtype)
            llm.compiled = fused and can_compile(CUDA)
            prompt = tiny.config(prompt={"order": order, "line": "{text}\n"}).prompt
            reader = ItemTexts(llm, prompt, tiny.ITEMS, memory_gib=held).reader
            virtual = torch.linspace(-0.1, 0.1, len(ROWS) * 3 * tiny.WIDTH).view(len(ROWS), 3, tiny.WIDTH).to(CUDA).requires_grad_()
            states = reader.read(*batch(CUDA), virtual)
            states.square().sum().backward()
            found.append((states.detach(), virtual.grad))
        for exact, rough in zip(*found, strict=True):
            assert float(torch.cosine_similarity(exact.flatten(1), rough.flatten(1)).min()) > 0.95  # of states and of gradients
    assert attended


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_kernels_run_where_their_tensors_are() -> None:
    gpu_attention.try_out(torch.device("cuda:1"), 32, 16)


def test_a_fit_is_resumed(tmp_path: Path) -> None:
    expected = trained(Pair("text_first", CUDA).there, tmp_path / "whole", stop=False)
    trained(Pair("text_first", CUDA).there, tmp_path / "stopped", stop=True)
    for name, tensor in trained(Pair("text_first", CUDA).there, tmp_path / "stopped", stop=False).items():
        if not name.endswith("items"):  # neighbours that are equally near
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-3)


def test_trained_on_a_gpu_and_served_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    laser = Laser.fit(small_shop.dataset(), small_shop.config(small_shop.write_llm(tmp_path / "llm")), device="cuda")
    assert laser.device == CUDA
    laser.save(tmp_path / "model")
    here = Laser.load(tmp_path / "model", device="cpu").recommend([["tent", "bag"]], 12)[0]
    found = {item.item_id: item.score for item in laser.recommend([["tent", "bag"]], 12)[0]}
    assert {item.item_id: item.score for item in here} == pytest.approx(found, abs=1e-3)


@pytest.mark.parametrize("storage", ["int8", "nf4", "fp8"])
def test_weights_are_rounded_alike_on_both(storage: Storage) -> None:
    weight = torch.nn.Linear(4096, 512, bias=False)
    here, there = QuantisedLinear(weight, storage), QuantisedLinear(deepcopy(weight).to(CUDA), storage)
    assert torch.equal(here.scales, there.scales.cpu())
    assert torch.equal(here.codes, there.codes.cpu())
