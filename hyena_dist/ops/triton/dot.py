# mypy: allow-untyped-defs, allow-incomplete-defs
"""Products of tiles on tensor cores: factors in the type that the norm's output has, sums in float32.

For float32 each factor is split in two of tf32 (10 bits), and three of the four products are added up: as accurate as
float32 itself, about 1e-6. Factors in 16 bits are exact, and so are their products in float32.
"""

import torch
import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Triton's interpreter has no products in bfloat16: there, rounded factors are multiplied in float32."""

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
"""Types that `dot` multiplies in."""


@triton.jit
def dot(a, b, acc, TYPE: tl.constexpr):
    """Return acc + a @ b in float32, with a and b rounded to TYPE."""
    if TYPE == tl.float32:  # noqa: SIM300 (a constant by its capitals, which the kernel compares)
        acc = tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="tf32x3")
    elif _INTERPRETED:
        acc = tl.dot(a.to(TYPE).to(tl.float32), b.to(TYPE).to(tl.float32), acc)
    else:
        acc = tl.dot(a.to(TYPE), b.to(TYPE), acc)
    return acc
