"""Causal attention of torch's back ends alone, bf16, as wide as the model: the operations of one half of all pairs."""

from collections.abc import Iterator
from functools import partial

import torch

from hyena_dist.bench.gpu.measuring import milliseconds
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.attention import causal_attention

BACKENDS = ("sdpa-cudnn", "sdpa-flash")
HEAD = 64


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give both back ends at every length."""
    for length in sizes.attention_lengths:
        for backend in BACKENDS:
            yield {"what": backend, "length": length}, partial(_measure, backend, length, sizes)


def _measure(backend: str, length: int, sizes: Sizes) -> dict[str, float]:
    head = min(HEAD, sizes.d_model)
    shape = (1, sizes.d_model // head, length, head)
    q, k, v = (torch.randn(shape, dtype=torch.bfloat16, device=sizes.device, requires_grad=True) for _ in range(3))
    try:
        causal_attention(q[..., :1, :], k[..., :1, :], v[..., :1, :], backend)
    except UserError as error:
        raise LeftOut(str(error)) from error
    dy = torch.randn_like(q)
    forward_ms = milliseconds(lambda: causal_attention(q, k, v, backend), sizes)
    both_ms = milliseconds(lambda: torch.autograd.grad(causal_attention(q, k, v, backend), (q, k, v), dy), sizes)
    forward = 2 * length**2 * sizes.d_model  # two products over half of the pairs; five more of them in backward
    return {
        "forward_ms": forward_ms,
        "both_ms": both_ms,
        "forward_tflop_per_s": forward / forward_ms / 1e9,
        "both_tflop_per_s": 3.5 * forward / both_ms / 1e9,
    }
