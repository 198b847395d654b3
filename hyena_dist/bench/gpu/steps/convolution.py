"""The long convolution alone, y[t] = sum over s <= t of k[t - s] u[s], by every candidate: seconds and errors.

Shapes: c channels, B batch, L length; u, y and their gradients [c, B, L] in bf16, k and its gradient [c, L] in float32.
"""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.bench.gpu.measuring import milliseconds, peak_gb
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes

BLOCK = 16
"""Channels of a block of `_fft_in_blocks`."""

Forward = Callable[[Tensor, Tensor], Tensor]
"""A function (u, k) -> y."""
Backward = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function (dy, u, k) -> (du, dk)."""


class Candidate(NamedTuple):
    """A way to compute the convolution."""

    forward: Forward
    backward: Backward
    compiles: bool = False
    """Whether it launches its kernels by `ops.triton.launch`, so that they can be compiled beforehand."""


def _fft(u: Tensor, k: Tensor) -> Tensor:
    """Compute y by torch.fft in float32, as the published code does."""
    size = 2 * u.shape[-1]
    k_f = torch.fft.rfft(k, n=size)[:, None]
    return torch.fft.irfft(torch.fft.rfft(u.float(), n=size) * k_f, n=size)[..., : u.shape[-1]].to(u.dtype)


def _fft_backward(dy: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Compute du and dk by torch.fft in float32."""
    length = u.shape[-1]
    u_f, dy_f = (torch.fft.rfft(x.float(), n=2 * length) for x in (u, dy))
    k_f = torch.fft.rfft(k, n=2 * length)[:, None]
    dk = torch.fft.irfft((dy_f * u_f.conj()).sum(1), n=2 * length)[..., :length]
    return torch.fft.irfft(dy_f * k_f.conj(), n=2 * length)[..., :length].to(u.dtype), dk


def _fft_in_blocks(u: Tensor, k: Tensor) -> Tensor:
    y = torch.empty_like(u)
    for first in range(0, len(u), BLOCK):
        rows = slice(first, first + BLOCK)
        y[rows] = _fft(u[rows], k[rows])
    return y


def _fft_in_blocks_backward(dy: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    du, dk = torch.empty_like(u), torch.empty_like(k)
    for first in range(0, len(u), BLOCK):
        rows = slice(first, first + BLOCK)
        du[rows], dk[rows] = _fft_backward(dy[rows], u[rows], k[rows])
    return du, dk


def _long_conv(u: Tensor, k: Tensor, precision: str) -> Tensor:
    conv = _module("hyena_dist.ops.triton.long_conv")
    y = torch.empty_like(u)
    conv.convolve((conv.Rows(u), None), conv.spectrum(k, precision), y, precision=precision)
    return y


def _long_conv_backward(dy: Tensor, u: Tensor, k: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    conv = _module("hyena_dist.ops.triton.long_conv")
    du, dk = torch.empty_like(u), torch.empty_like(k)
    operands = (conv.Rows(dy), None), (conv.Rows(u), None)
    conv.convolve_backward(*operands, conv.spectrum(k, precision), du, dk, precision=precision)
    return du, dk


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LeftOut(str(error)) from error


def _by_long_conv(precision: str) -> Candidate:
    forward, backward = partial(_long_conv, precision=precision), partial(_long_conv_backward, precision=precision)
    return Candidate(forward, backward, compiles=True)


REFERENCE = "torch.fft"
CANDIDATES = {
    REFERENCE: Candidate(_fft, _fft_backward),
    "torch.fft, 16 channels at a time": Candidate(_fft_in_blocks, _fft_in_blocks_backward),
    "long_conv, bf16x3": _by_long_conv("bf16x3"),
    "long_conv, bf16": _by_long_conv("bf16"),
}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give every candidate at every size that it is built for."""
    for rows in sizes.convolution_rows:
        for length in sizes.convolution_lengths:
            for name, candidate in CANDIDATES.items():
                case = {"what": name, "rows": rows, "length": length}
                yield case, partial(_measure, candidate, rows, length, sizes)


def on_meta(sizes: Sizes) -> Iterator[Callable[[], object]]:
    """Give the calls whose kernels shall be compiled; the number of rows makes no difference to them."""
    for length in sizes.convolution_lengths:
        for candidate in CANDIDATES.values():
            if candidate.compiles:
                for rows in sizes.convolution_rows:
                    yield partial(_on_meta, candidate, rows, length, sizes)


def _on_meta(candidate: Candidate, rows: int, length: int, sizes: Sizes) -> None:
    dy, u, k = _operands(rows, length, sizes, torch.device("meta"))
    candidate.forward(u, k)
    candidate.backward(dy, u, k)


def _operands(rows: int, length: int, sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return dy, u and k, which decays as filters do."""
    channels = sizes.channels
    torch.manual_seed(0)
    dy, u = (torch.randn(channels, rows // channels, length, dtype=torch.bfloat16, device=device) for _ in range(2))
    decay = torch.exp(-4 * torch.arange(length, device=device) / length)
    return dy, u, torch.randn(channels, length, device=device) * decay


def _measure(candidate: Candidate, rows: int, length: int, sizes: Sizes) -> dict[str, float | str]:
    device = torch.device(sizes.device)
    dy, u, k = _operands(rows, length, sizes, device)
    figures: dict[str, Any] = _errors(candidate, dy, u, k)
    figures["peak_gb"] = peak_gb(lambda: candidate.backward(dy, u, k), device)
    figures["forward_ms"] = milliseconds(lambda: candidate.forward(u, k), sizes)
    figures["backward_ms"] = milliseconds(lambda: candidate.backward(dy, u, k), sizes)
    return figures


def _errors(candidate: Candidate, dy: Tensor, u: Tensor, k: Tensor) -> dict[str, float]:
    """Return the errors of the first channel, as shares of the largest values in float64."""
    y_exact, du_exact, dk_exact = _exact(dy[:1], u[:1], k[:1])
    errors = {"y_error": _error(candidate.forward(u, k)[:1], y_exact)}
    du, dk = candidate.backward(dy, u, k)
    errors["du_error"] = _error(du[:1], du_exact)
    errors["dk_error"] = _error(dk[:1], dk_exact)
    return errors


def _exact(dy: Tensor, u: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, du and dk in float64."""
    dy, u, k = dy.double(), u.double(), k.double()
    size = 2 * u.shape[-1]
    dy_f, u_f, k_f = (torch.fft.rfft(x, n=size) for x in (dy, u, k[:, None]))
    found = (u_f * k_f, dy_f * k_f.conj(), (dy_f * u_f.conj()).sum(1))
    y, du, dk = (torch.fft.irfft(f, n=size)[..., : u.shape[-1]] for f in found)
    return y, du, dk


def _error(actual: Tensor, exact: Tensor) -> float:
    return float((actual.double() - exact).abs().max() / exact.abs().max())
