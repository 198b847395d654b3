"""A forward pass over a prompt that also gives what the prompt adds to the convolutions of the positions after it.

Shapes: B batch, D d_model, N order, P positions of the prompt, K positions after it, C channels of all long
convolutions, n_layer (N - 1) D, G projections of all layers, n_layer (N + 1) D.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.generation.layer_weights import hyena_layers, long_filter
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops import fast_fft_size
from hyena_dist.ops.conv.short import short_conv

FFT_NUMBERS = 2**21
"""Points of the sequences that are transformed at once."""


class Prefilled(NamedTuple):
    """The state that a decoder goes on from."""

    hidden: Tensor
    """The residual stream after the last layer at the last position, [B, D]."""
    projections: Tensor
    """The last projections of all layers, as many as the short filters look back, [taps - 1, B, G]; 0 before P."""
    kernels: Tensor
    """The filters at lags below K, [K, C]."""
    sums: Tensor
    """What the prompt gives to the K next outputs of the convolutions, [K, B, C]."""


def prefill(model: HyenaDNA, input_ids: Tensor, steps: int, dtype: torch.dtype) -> Prefilled:
    """Take a prompt [B, P] through the layers.

    Args:
        model: Hyena layers alone, in one process.
        input_ids: the prompt.
        steps: K.
        dtype: the type of filters and sums.
    """
    config = model.config
    batch, length = input_ids.shape
    back = config.short_filter_order - 1
    channels = config.n_layer * (config.order - 1) * config.d_model
    x = model.backbone.embeddings.word_embeddings(input_ids)  # [P, B, D]
    kernels = torch.empty(steps, channels, dtype=dtype, device=x.device)
    sums = torch.empty(steps, batch, channels, dtype=dtype, device=x.device)
    places: Iterator[slice] = (slice(c, c + config.d_model) for c in range(0, channels, config.d_model))
    projections = []
    for layer, mixer in hyena_layers(model):
        projected = mixer.in_proj.channels_first(layer.norm1(x)).transpose(0, 1).to(dtype).contiguous()
        projections.append(F.pad(projected, (back, 0))[..., length:].permute(2, 0, 1))
        taps, bias = mixer.short_filter.operands()
        *gates, v = short_conv(projected, taps.to(dtype), bias.to(dtype)).chunk(mixer.order + 1, dim=1)  # [B, D, P]
        for gate, kernel in zip(reversed(gates[1:]), long_filter(mixer, length + steps, dtype), strict=True):
            place = next(places)
            v = _convolve(v * gate, kernel, sums[:, :, place])
            kernels[:, place] = kernel[:, :steps].t()
        x = x + mixer.out_proj((v * gates[0]).permute(2, 0, 1).to(model.compute_dtype))
        x = layer.mlp(x, layer.norm2, residual=True)
    return Prefilled(x[-1], torch.cat(projections, dim=-1), kernels, sums)


def _convolve(u: Tensor, kernel: Tensor, later: Tensor) -> Tensor:
    """Return the causal convolution [B, D, P] of u, and write what u gives to the next K outputs to `later` [K, B, D].

    Args:
        u: [B, D, P].
        kernel: the filter at P + K lags, [D, P + K].
        later: where the sums go.
    """
    batch, channels, length = u.shape
    points = fast_fft_size(length + kernel.shape[-1] - 1)  # nothing wraps around
    width = max(1, FFT_NUMBERS // (points * batch))
    y = torch.empty_like(u)
    for first in range(0, channels, width):
        piece = slice(first, first + width)
        spectrum = torch.fft.rfft(u[:, piece], n=points).mul_(torch.fft.rfft(kernel[piece], n=points))
        outputs = torch.fft.irfft(spectrum, n=points)[..., : kernel.shape[-1]]
        y[:, piece] = outputs[..., :length]
        later[:, :, piece] = outputs[..., length:].permute(2, 0, 1)
    return y
