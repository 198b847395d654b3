"""The causal convolution of inputs that come one at a time, each known only once the outputs before it are.

With y_t = sum over s <= t of k_{t-s} u_s, the inputs [n - U, n) act on the outputs [n, n + U) as soon as the last of
them is there. After n inputs this is done for U, the largest power of two that divides n, by an FFT of 2U points; each
pair s < t is in one such square. Pairs within one base block are added directly. So L outputs cost O(L log^2 L).

Source: Fischer and Stockmeyer, Fast on-line integer multiplication (1974); for long convolutions, Flash Inference
(arXiv 2410.12982) and FutureFill (2410.03766).

Shapes: B batch, C channels, K steps, U inputs of a square.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BASE = 32
"""Inputs of a base block, within which pairs are added one by one."""

CACHED = 512
"""The largest U whose filter spectrum is kept: larger ones are rarely used, and would need most of the memory."""

SQUARE_NUMBERS = 2**17
"""Inputs of a square that are transformed at once, so that it stays in the cache and needs little memory."""


def online_numbers(channels: int, batch: int, steps: int, base: int = BASE) -> int:
    """Return the numbers that an OnlineConv of K steps needs at most, at the moment of its largest square."""
    sizes = [base << i for i in range(steps.bit_length()) if base << i < steps]
    spectra = sum(2 * (size + 1) * channels for size in sizes if size <= CACHED)
    largest = max(sizes, default=0)
    width = min(channels, _width(largest, batch))
    # The inputs' spectrum, and what it is made of or turned into, or the padded filters and theirs.
    square = largest * width * (2 * batch + max(2 * batch, 4))
    return steps * channels * (batch + 1) + spectra + square


class OnlineConv:
    """Causal convolutions of K steps, all channels of all layers at once.

    Args:
        kernels: the filters by lag, [K, C], of the type in which sums are kept.
        batch: B.
        sums: what earlier inputs add to the outputs, [K, B, C], which is overwritten, or [K, 1, C] for all sequences.
        base: the size of a base block, a power of two.
    """

    def __init__(self, kernels: Tensor, batch: int, sums: Tensor | None = None, base: int = BASE) -> None:
        self.kernels = kernels
        self.steps = 0
        """Inputs so far."""
        self._base = base
        # One store for both: the sums of an output are of no use once its input is there.
        sums = kernels.new_zeros(len(kernels), batch, kernels.shape[1]) if sums is None else sums
        self._inputs_then_sums = sums.expand(-1, batch, -1).contiguous()
        self._lags = kernels[:, None]
        self._spectra: dict[int, Tensor] = {}

    @property
    def pending(self) -> Tensor:
        """What the inputs so far give to the next output, [B, C]: without the part of its own input, kernels[0] * u."""
        return self._inputs_then_sums[self.steps]

    def push(self, u: Tensor) -> None:
        """Take the next input, [B, C].

        Raises:
            IndexError: all K have come.
        """
        store, base = self._inputs_then_sums, self._base
        store[self.steps] = u
        self.steps = n = self.steps + 1
        if n % base:
            later = store[n : n - n % base + base]  # to the end of the base block
            later.addcmul_(u, self._lags[1 : 1 + len(later)])
        elif n < len(store):
            self._add_square(n, n & -n)

    def reorder(self, index: Tensor) -> None:
        """Go on with these rows of the batch, int64 [B]."""
        for piece in self._pieces(len(self._inputs_then_sums)):
            part = self._inputs_then_sums[:, :, piece]
            part.copy_(part[:, index])

    def _add_square(self, n: int, size: int) -> None:
        """Add what the inputs [n - size, n) give to the outputs [n, n + size)."""
        store = self._inputs_then_sums
        for piece in self._pieces(size):
            later = store[n : n + size, :, piece]
            later += self._square(store[n - size : n, :, piece], piece)[: len(later)]

    def _square(self, u: Tensor, piece: slice) -> Tensor:
        """Return what inputs [U, B, channels of the piece] give to as many outputs after them."""
        size = len(u)
        spectrum = _transform(u, size).mul_(self._spectrum(size, piece))
        return torch.fft.irfft(spectrum, n=2 * size)[..., size:].movedim(-1, 0)

    def _spectrum(self, size: int, piece: slice) -> Tensor:
        """Return the spectrum of the filters' first 2 size lags, [channels of the piece, size + 1]."""
        if size > CACHED:
            return _transform(self.kernels[: 2 * size, piece], size)
        if size not in self._spectra:
            channels = self.kernels.shape[1]
            kept = self.kernels.new_empty(channels, size + 1, dtype=self.kernels.dtype.to_complex())
            for part in self._pieces(size):
                kept[part] = _transform(self.kernels[: 2 * size, part], size)
            self._spectra[size] = kept
        return self._spectra[size][piece]

    def _pieces(self, size: int) -> Iterator[slice]:
        """Return parts of the channels of which squares of this size are transformed at once."""
        _, batch, channels = self._inputs_then_sums.shape
        width = _width(size, batch)
        return (slice(first, first + width) for first in range(0, channels, width))


def _transform(x: Tensor, size: int) -> Tensor:
    """Return the spectrum of x [L, ...] with zeros up to 2 size points, [..., size + 1]."""
    padded = x.new_zeros(*x.shape[1:], 2 * size)
    padded[..., : len(x)] = x.movedim(0, -1)
    return torch.fft.rfft(padded)


def _width(size: int, batch: int) -> int:
    """Return how many channels of a square are transformed at once."""
    return max(1, SQUARE_NUMBERS // max(1, size * batch))
