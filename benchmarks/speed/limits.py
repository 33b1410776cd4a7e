"""Measure the best rates of this machine or its GPU, for matrix products and memory, in the process that they are compared with.

Knows nothing of models beyond the shapes of their products.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.speed.flops import Shape
from laserrec.layers.products import products
from laserrec.system.devices import CPU, wait

DType = Literal["bfloat16", "float32"]
ROWS = 2048
"""Side of the square product: large enough to reach the processor's best rate."""
ATTEMPTS = 5
"""Tries of each rate, of which the fastest counts."""


@dataclass(frozen=True)
class Limits:
    """The machine's limits with the threads that torch had.

    Attributes:
        bfloat16: matrix products in bfloat16, FLOP/s.
        float32: matrix products in float32, FLOP/s.
        read: bytes/s read from memory.
        copy: bytes/s read and written while copying.
    """

    bfloat16: float
    float32: float
    read: float
    copy: float

    def rate(self, dtype: DType) -> float:
        """Return the matrix products' rate, FLOP/s."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32

    def least_seconds(self, flops: float, dtype: DType, read: float = 0.0) -> tuple[float, Literal["compute", "memory"]]:
        """Return the time below which a job cannot be done, and what bounds it.

        Args:
            flops: floating-point operations of its matrix products.
            dtype: their type.
            read: bytes that must be read.
        """
        compute, memory = flops / self.rate(dtype), read / self.read
        return (compute, "compute") if compute >= memory else (memory, "memory")

    def best(self, other: Limits) -> Limits:
        """Return the higher of two measurements, figure by figure: a limit is what the machine did at its best."""
        mine, its = asdict(self), asdict(other)
        return Limits(**{name: max(value, its[name]) for name, value in mine.items()})

    def as_dict(self) -> dict[str, float]:
        """Return the figures in GFLOP/s and GB/s."""
        return {
            "bfloat16_gflops": self.bfloat16 / 1e9,
            "float32_gflops": self.float32 / 1e9,
            "read_gbytes": self.read / 1e9,
            "copy_gbytes": self.copy / 1e9,
        }


def measure_limits(shape: Shape | None = None, side: int = ROWS, device: torch.device = CPU) -> Limits:
    """Measure a device's limits.

    Args:
        shape: a decoder whose own products are tried beside a square one.
        side: of the square product; memory is measured on 64 · side² bytes (256 MB at 2048), far beyond any cache.
        device: which one.
    """
    shapes = [(side, side, side)]
    if shape is not None:
        inner = shape.inner
        heads = shape.heads * shape.head_width
        shapes += [(side, shape.width, inner), (side, inner, shape.width), (side, shape.width, heads)]
    read, copy = _memory(16 * side * side, device)
    half, single = (_products(shapes, dtype, device) for dtype in (torch.bfloat16, torch.float32))
    return Limits(bfloat16=half, float32=single, read=read, copy=copy)


@torch.no_grad()
def _products(shapes: list[tuple[int, int, int]], dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate over products x [m, k] · w [n, k]ᵀ, FLOP/s, by whichever library does them fastest."""
    best = 0.0
    for m, k, n in shapes:
        x, w = (torch.randn(rows, k, device=device).to(dtype) for rows in (m, n))
        seconds = min(_fastest(partial(linear, x, w)), _fastest(partial(products, x, w)))
        best = max(best, 2 * m * k * n / seconds)
    return best


def _memory(numbers: int, device: torch.device) -> tuple[float, float]:
    """Return bytes/s of reading and of copying float32 numbers."""
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    table = source.view(-1, 256)
    ones = torch.ones(256, device=device)
    reads: list[Callable[[], Tensor]] = [source.sum, lambda: torch.dot(source, source), lambda: table @ ones]
    read = min(_fastest(run) for run in reads)
    return 4 * numbers / read, 8 * numbers / _fastest(lambda: target.copy_(source))


def _fastest(run: Callable[[], object]) -> float:
    run()
    wait()
    taken = []
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        run()
        wait()
        taken.append(time.perf_counter() - began)
    return min(taken)
