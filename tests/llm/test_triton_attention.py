"""The GPU's kernels of attention to cached blocks against the plain ones, forward and backward.

On a machine without a GPU Triton's interpreter runs them, where Triton is installed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from laserrec.laser.item_texts import ItemTexts
from laserrec.llm import attention
from laserrec.llm.attention import attend
from laserrec.llm.buckets import CachedContext, LengthBucket
from laserrec.llm.kernels import Kernels, RotaryAngles

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed; torch brings it along for CUDA"),
    *([pytest.mark.gpu] if DEVICE.type == "cuda" else []),
]
C, LAYER = 32, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def angles(rows: int, length: int, seed: int) -> RotaryAngles:
    angle = draw(rows, length, C // 2, seed=seed)
    return angle.cos().to(DEVICE), angle.sin().to(DEVICE)


def groups(shapes: Sequence[tuple[int, int, int]], heads: int, dtype: torch.dtype) -> list[LengthBucket]:
    """Build groups from (rows, new tokens, context tokens); each row's context is a token shorter than the one's before it."""
    built, start = [], 0
    for rows, new, far in shapes:
        kept = draw(LAYER * 3 * far + 50, 2, heads, C).to(DEVICE, dtype)
        ends = (far - torch.arange(rows)).clamp(min=0)
        mask = torch.arange(far) < ends[:, None]
        index = torch.randint(0, 2 * far + 1, (rows, far), generator=torch.Generator().manual_seed(far))
        stride = torch.full_like(index, far // 2)
        where = (torch.where(mask, part, 0).to(DEVICE) for part in (index, stride, torch.arange(far).expand(rows, -1)))
        context = CachedContext(kept, *where, mask.to(DEVICE), padded=True)
        built.append(LengthBucket(start, rows, new, angles(rows if new % 2 else 1, new, 7), context, angles(rows, far, 8), padded=True))
        start = built[-1].end
    return built


@pytest.mark.parametrize("shapes", [[(2, 3, 5)], [(3, 9, 70), (1, 9, 200)], [(2, 33, 20)], [(2, 1, 0), (1, 64, 3)]])
@pytest.mark.parametrize("repeats", [1, 3])
def test_they_are_the_plain_ones(shapes: list[tuple[int, int, int]], repeats: int) -> None:
    from laserrec.llm.triton_attention import attend_blocks

    heads, parts = 2, groups(shapes, 2, torch.float32)
    inputs = [draw(parts[-1].end, n * C, seed=n).to(DEVICE).requires_grad_() for n in (heads * repeats, heads, heads)]
    found = attend_blocks(*inputs, parts, LAYER, C)
    exact = [part.detach().cpu().double().requires_grad_() for part in inputs]
    expected = attend(*exact, [on_cpu(group) for group in parts], LAYER, C, Kernels())
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5)
    pull = draw(*found.shape, seed=9)
    own = torch.autograd.grad((found * pull.to(DEVICE)).sum(), inputs)
    theirs = torch.autograd.grad((expected * pull.double()).sum(), exact)
    for actual, wanted in zip(own, theirs, strict=True):
        torch.testing.assert_close(actual.cpu().double(), wanted, rtol=1e-4, atol=1e-4)


def on_cpu(group: LengthBucket) -> LengthBucket:
    context = group.context
    assert isinstance(context, CachedContext)
    assert group.context_angles
    rows, *where = (part.cpu() for part in (context.rows, context.index, context.stride, context.positions, context.mask))
    there = CachedContext(rows.double(), *where, padded=True)
    turn, far = (tuple(part.cpu().double() for part in parts) for parts in (group.angles, group.context_angles))
    return LengthBucket(group.start, group.rows, group.length, (turn[0], turn[1]), there, (far[0], far[1]), padded=True)


def test_half_precision_stays_near_float32() -> None:
    from laserrec.llm.triton_attention import attend_blocks

    found, half = [], torch.bfloat16 if DEVICE.type == "cuda" else torch.float16  # the interpreter knows no bfloat16
    for dtype in (torch.float32, half):
        parts = groups([(3, 9, 150)], 2, dtype)
        inputs = [draw(parts[-1].end, n * C, seed=n).to(DEVICE, dtype).requires_grad_() for n in (6, 2, 2)]
        mixed = attend_blocks(*inputs, parts, LAYER, C)
        found.append([mixed.detach(), *torch.autograd.grad(mixed.float().square().sum(), inputs)])
    for exact, rough in zip(*found, strict=True):
        assert float((exact - rough.float()).norm() / exact.norm()) < 0.02


def test_what_they_are_made_for() -> None:
    from laserrec.llm.triton_attention import fits

    query, parts = torch.empty(1, dtype=torch.bfloat16), groups([(2, 3, 5)], 2, torch.bfloat16)
    assert fits(query, parts, C)
    assert not fits(query, parts, 48)
    assert not fits(query.float(), parts, C)
    assert not fits(query, groups([(1, 65, 3)], 2, torch.bfloat16), C)
    assert not fits(query, [replace(parts[0], context=None)], C)


@dataclass
class Noted:
    """A kernel that tells when it is launched."""

    kernel: Any
    name: str
    ran: list[str]

    def __getitem__(self, grid: tuple[int, ...]) -> Any:  # noqa: ANN401
        self.ran.append(self.name)
        return self.kernel[grid]


@pytest.mark.parametrize(("width", "new"), [(32, 16), (64, 64), (128, 16)])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_trying_them_out_runs_both_whoever_asks_first(monkeypatch: pytest.MonkeyPatch, mode: type, width: int, new: int) -> None:
    from laserrec.llm import triton_attention as gpu_attention

    ran: list[str] = []
    for name in ("_forward", "_backward"):
        monkeypatch.setattr(gpu_attention, name, Noted(getattr(gpu_attention, name), name, ran))
    with mode():
        gpu_attention.try_out(DEVICE, width, new)
    assert ran == ["_forward", "_backward"]


def test_where_they_do_not_work_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from laserrec.llm import triton_attention as gpu_attention

    gpu_attention.kernels_available.cache_clear()
    failures: list[Exception] = [torch.OutOfMemoryError("none left"), RuntimeError("out of resource: shared memory")]

    def fail(*_: object) -> None:
        raise failures.pop(0)

    monkeypatch.setattr(gpu_attention, "try_out", fail)
    with pytest.raises(torch.OutOfMemoryError):
        gpu_attention.kernels_available(DEVICE, 32, 16)
    with pytest.warns(RuntimeWarning, match=r"heads of 32 numbers and 16 new tokens do not work here.*shared memory"):
        assert not gpu_attention.kernels_available(DEVICE, 32, 16)
    assert not gpu_attention.kernels_available(DEVICE, 32, 16)
    assert not failures
    gpu_attention.kernels_available.cache_clear()


def test_what_they_are_compiled_for() -> None:
    from laserrec.llm.triton_attention import padded

    assert padded(groups([(2, 3, 5)], 2, torch.float16)) == 16
    assert padded(groups([(2, 3, 5), (1, 33, 5)], 2, torch.float16)) == 64


def test_cached_texts_are_read_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the whole decoder, from the texts to the embedding and back, as by the plain way in float32."""
    from laserrec.llm import triton_attention as gpu_attention

    found, attended = [], []
    plain = gpu_attention.attend_blocks
    monkeypatch.setattr(gpu_attention, "attend_blocks", lambda *given: (attended.append(1), plain(*given))[1])
    for there, dtype in ((None, torch.float32), (gpu_attention, torch.float16)):
        monkeypatch.setattr(attention, "gpu_kernels", lambda _, there=there: there)
        llm = tiny.backbone("llama-grouped", head_dim=C)
        llm.model.to(DEVICE, dtype)
        reader = ItemTexts(llm, tiny.config().prompt, tiny.ITEMS).reader
        items, mask = (part.to(DEVICE) for part in tiny.batch([[0, 1, 2], [7], [3, 4]]))
        virtual = torch.linspace(-0.1, 0.1, 3 * 4 * tiny.WIDTH).view(3, 4, tiny.WIDTH).to(DEVICE).requires_grad_()
        states = reader.read(items, mask, virtual)
        states.square().sum().backward()
        found.append((states.detach(), virtual.grad))
    assert attended
    for exact, rough in zip(*found, strict=True):
        assert float(torch.cosine_similarity(exact.flatten(1), rough.flatten(1)).min()) > 0.99
