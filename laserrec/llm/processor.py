"""Find out which types this machine's processor multiplies fast."""

from __future__ import annotations

import torch


def fast_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 faster than float32.

    A processor without instructions for it, say of most laptops, multiplies bfloat16 five to eight times slower than float32
    (docs/explanation/performance.md).
    """
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
