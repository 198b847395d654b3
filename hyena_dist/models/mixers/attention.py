"""Causal self-attention with rotary positions: the Transformer baseline is the same model with this mixer.

Shapes: L length, S = L / P positions of one of P context ranks, B batch, D d_model, E head size, H heads of this tensor
rank, H_r those of them that context rank r attends with.
"""

import importlib
import math
import warnings
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyena_dist.config.mixers.attention import attention_heads
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.mixers.base import MixerModule
from hyena_dist.parallel.collectives import shares, to_channels, to_sequence
from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh

_SDPA = {
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-math": SDPBackend.MATH,
}
BACKENDS = ("flash-attn", *_SDPA)
"""Names of the back ends of `causal_attention`: the flash-attn package, and torch's own."""

# How torch says that a back end does not take these tensors: on CUDA, on the CPU, and when cuDNN finds no plan.
_REFUSALS = ("No available kernel", "No viable backend", "cuDNN Frontend error")


class AttentionMixer(MixerModule):
    """Causal self-attention over all positions, heads split over the tensor ranks, and in between over context ranks.

    Under context parallelism each rank projects its own positions, attends over all positions with its share of the
    heads, and gets its positions of all heads back: one all-to-all out, one back.
    Source: DeepSpeed-Ulysses (arXiv 2309.14509), rotary positions (arXiv 2104.09864).
    """

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(config, mesh)
        self.head_dim = head_size(config)
        self.rotary_base = config.rotary_base
        self.mesh = mesh
        std = config.initializer_range
        output_std = std / math.sqrt(2 * config.n_layer)
        self.Wqkv = ColumnLinear(config.d_model, 3 * config.d_model, mesh=mesh, init=normal(std), blocks=3)
        self.out_proj = RowLinear(config.d_model, config.d_model, mesh=mesh, init=normal(output_std))

    def forward(self, x: Tensor, norm: Norm | None = None, residual: bool = False) -> Tensor:
        """Return the mixer of norm(x): [S, B, D] -> [S, B, D]; without a norm, x is taken as it is.

        With sequence parallelism both are this tensor rank's part of the S positions.
        """
        q, k, v = (
            self.Wqkv(x if norm is None else norm(x)).unflatten(2, (3, -1, self.head_dim)).unbind(2)
        )  # [S, B, H, E]
        positions = q.shape[0]  # not those of x, which sequence parallelism spreads
        angles_dtype = torch.promote_types(q.dtype, torch.float32)
        start = self.mesh.context.rank() * positions
        cos, sin = rotary_table(start, positions, self.head_dim, self.rotary_base, angles_dtype, q.device)
        attend = self._attend if self.mesh.context.size() == 1 else self._attend_over_ranks
        y: Tensor = self.out_proj(attend(rotate(q, cos, sin), rotate(k, cos, sin), v))
        return y

    @classmethod
    def describe(cls, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str:
        """Return a sentence about the back end that attention will use."""
        return f"attention by {usable_backends(device, dtype, head_size(config))[0]}"

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return attention over the positions of one rank: [S, B, H, E] each -> [S, B, H E]."""
        v = v.contiguous()  # Kept for backward: as a view it would keep the projections of q and k as well.
        q, k, v = (t.permute(1, 2, 0, 3) for t in (q, k, v))
        y = causal_attention(q, k, v)
        return y.permute(2, 0, 1, 3).flatten(2)

    def _attend_over_ranks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return attention where each rank holds other positions: [S, B, H, E] each -> [S, B, H E]."""
        context, e = self.mesh.context, q.shape[3]
        width = q.shape[2] * e
        # [3 H E, B, S] in memory, a head's q, k and v together: the exchange sends it without a copy.
        qkv = torch.stack([t.permute(2, 3, 1, 0) for t in (q, k, v)], dim=1).flatten(0, 2).transpose(0, 1)
        mine = to_channels(qkv, shares(3 * width, context.size(), unit=3 * e), context)  # [B, 3 H_r E, L]
        # In one copy, since kernels want E innermost.
        q, k, v = mine.unflatten(1, (-1, 3, e)).permute(2, 0, 1, 4, 3).contiguous()  # [B, H_r, L, E]
        y = causal_attention(q, k, v).transpose(2, 3).flatten(1, 2)  # [B, H_r E, L]
        return to_sequence(y, shares(width, context.size(), unit=e), context).permute(2, 0, 1)


def head_size(config: ModelConfig) -> int:
    """Return the number of channels of a head, E."""
    return config.d_model // attention_heads(config)


@lru_cache(maxsize=1)  # one for all layers: at a million positions it is a quarter of a GiB
def rotary_table(
    start: int, length: int, head_dim: int, base: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angles p * base^(-2 i / E), each [length, 1, 1, E / 2] in `dtype`, for `rotate`.

    Args:
        start: the first position p.
        length: the number of positions.
        head_dim: the head size E, even.
        base: the number whose powers are the frequencies.
        dtype: the type of the result. Angles are float64 until then: rounded to float32, those of a million positions
            would be off by 0.03.
        device: where to compute.
    """
    with torch.inference_mode(False):  # what evaluation leaves in the cache must do for training
        frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim)
        position = torch.arange(start, start + length, dtype=torch.float64, device=device)
        angle = (position[:, None] * frequency)[:, None, None]
        return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions: turn each pair (x_i, x_{i + E/2}) of [S, B, H, E] by its angle ("rotate half").

    Computed in the type of the angles, returned in that of x.
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(E)) v, each position over itself and those before it.

    Args:
        q: queries, [B, H, L, E]; any strides, but E innermost.
        k: keys, [B, H, L, E].
        v: values, [B, H, L, E]; all three have one type.
        backend: a name of BACKENDS; `attention_backend(q)` if not given.

    Returns:
        [B, H, L, E] in the same type, with the strides that the back end likes.

    Raises:
        UserError: an unknown back end, or one that does not take these tensors.
    """
    if backend is None:
        backend = attention_backend(q)
    elif backend not in BACKENDS:
        raise UserError(f"attention backend {backend!r} does not exist; choose one of {', '.join(BACKENDS)}")
    elif reason := _refusal(backend, *_kind(q)):
        raise UserError(
            f"attention backend {backend!r} cannot take {q.dtype} heads of size {q.shape[-1]} on {q.device}: {reason}; "
            f"use {attention_backend(q)!r}"
        )
    return _run(backend, q, k, v)


def attention_backend(q: Tensor) -> str:
    """Return the name of the back end that `causal_attention` uses for queries like q [B, H, L, E]."""
    return next(name for name in _order(q.device) if _refusal(name, *_kind(q)) is None)


def usable_backends(device: torch.device, dtype: torch.dtype, head_dim: int) -> list[str]:
    """Return the names of the back ends that take such heads on a device; the first is the one used."""
    q = torch.empty(1, 1, 2, head_dim, dtype=dtype, device=device)
    return [name for name in _order(q.device) if _refusal(name, *_kind(q)) is None]


def _order(device: torch.device) -> tuple[str, ...]:
    """Return back ends from fast to slow. By timings, a resumed run could get other kernels, and other bits."""
    if device.type != "cuda":
        return "sdpa-flash", "sdpa-math"
    hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    fused = ("sdpa-cudnn", "sdpa-flash") if hopper else ("sdpa-flash", "sdpa-cudnn")
    return "flash-attn", *fused, "sdpa-efficient", "sdpa-math"


def _kind(q: Tensor) -> tuple[torch.device, torch.dtype, int, bool, bool]:
    """Return what decides whether a back end takes q; cuDNN takes no single position and promises no determinism."""
    return q.device, q.dtype, q.shape[3], q.shape[2] == 1, torch.are_deterministic_algorithms_enabled()


@cache
def _refusal(
    name: str, device: torch.device, dtype: torch.dtype, head_dim: int, single: bool, deterministic: bool
) -> str | None:
    """Return why a back end does not take such tensors, found out by a small call; None if it does."""
    if name == "flash-attn":
        ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        if not ampere or dtype not in (torch.float16, torch.bfloat16) or head_dim > 256:
            return "it takes float16 and bfloat16, heads of up to 256, on GPUs of compute capability 8.0 or later"
        try:
            importlib.import_module("flash_attn")
        except ImportError as error:
            return f"{error} (pip install hyena-dist[flash-attn])"
    if name == "sdpa-cudnn" and device.type == "cuda" and (torch.backends.cudnn.version() or 0) < 91501:
        # torch itself prefers it from there on. github.com/pytorch/pytorch/pull/171627
        return "before cuDNN 9.15.1 gradients can be NaN where the length is no multiple of 128"
    # With gradients, even if evaluation asks first: a back end may take a head size forward alone. Zeros move no seed.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        # Activation checkpointing counts what forward saves, and recomputes without this call.
        torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        q = torch.zeros(1, 1, 1 if single else 128, head_dim, dtype=dtype, device=device, requires_grad=True)
        try:
            y = _run(name, q, q, q)
            torch.autograd.grad(y, q, torch.zeros_like(y, memory_format=torch.contiguous_format))
        except RuntimeError as error:
            if not any(words in str(error) for words in _REFUSALS):
                raise
            return "torch has no such kernel for them"
    return None


def _run(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if name == "flash-attn":
        flash_attn = importlib.import_module("flash_attn")  # not when this module loads: it is optional
        deterministic = torch.are_deterministic_algorithms_enabled()
        by_position = (t.transpose(1, 2) for t in (q, k, v))
        y: Tensor = flash_attn.flash_attn_func(*by_position, causal=True, deterministic=deterministic)
        return y.transpose(1, 2)
    with sdpa_kernel(_SDPA[name]):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
