"""Log-likelihoods of windows that begin alike: what is before the first difference is computed once for all of them.

The model is causal, so that hidden states of the shared prefix are the same in every window of a variant. What follows
sees the prefix through the layers' convolutions alone. With u_p and u_s the two parts of a convolution's input,

    y = k * (u_p, u_s) = k * (u_p, 0) + k * (0, u_s)

where the first term is computed once for the variant, over all W positions, and the second for each window, over its S
own. A short filter needs the prefix's last K - 1 projections besides. All of it is exact, in any order of Hyena.

Of a variant in the middle of its window, with A alternatives, two forward passes or more compute (1 + A) W positions,
and this P + (1 + A) S: at most 1.33 times fewer with one alternative, 1.6 times with three.

Shapes: G variants, R = sum of (1 + A) windows, W = P + S bases, of which P are the prefix; C channels, D d_model, N
order, K taps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hyena_dist.inference.likelihoods import next_bases
from hyena_dist.inference.variant_windows import VariantWindow
from hyena_dist.models.block import Block
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.ops import fast_fft_size, head_nll
from hyena_dist.ops.sizes import sizes_of

SMALLEST_GROUP = 16
"""Channels of a matrix product that still runs at a good rate."""


class Parts(NamedTuple):
    """Tensors of the prefixes, and of the windows' own positions."""

    prefix: Tensor
    own: Tensor


class _Layer(NamedTuple):
    """A layer, and the parameters of its mixer by channel, in the compute type."""

    block: Block
    in_weight: Tensor
    """Weight of the first projection, [N + 1, C, D]."""
    in_bias: Tensor
    """Bias of the first projection, [N + 1, C]."""
    taps: Tensor
    """Taps of the short filters, [N + 1, C, K]."""
    bias: Tensor
    """Bias of the short filters, [N + 1, C]."""
    over_all: Tensor
    """Spectra of the filters for the prefixes, whose values reach all positions; [N - 1, C, 1, points // 2 + 1]."""
    over_own: Tensor
    """Spectra for the windows' own positions, likewise."""

    def of(self, group: slice) -> "_Layer":
        """Return those of some channels."""
        return _Layer(self.block, *(parameter[:, group] for parameter in self[1:]))


class SharedPrefix:
    """The model over windows of one length whose prefixes have one length, in evaluation mode and in one process.

    Args:
        model: all its layers are Hyena's.
        window: W.
        prefix: P, from the short filters' K - 1 on.
    """

    @torch.no_grad()
    def __init__(self, model: HyenaDNA, window: int, prefix: int) -> None:
        self.model = model
        self.prefix = prefix
        # Sums that wrap around fall on the prefix's first positions, or behind the window.
        self.points = fast_fft_size(window + prefix - 1), fast_fft_size(2 * (window - prefix) - 1)
        self.layers = [self._layer(block, window) for block in model.backbone.layers]

    def _layer(self, block: nn.Module, window: int) -> _Layer:
        assert isinstance(block, Block)
        mixer = block.mixer
        assert isinstance(mixer, HyenaMixer)
        parameters = (mixer.in_proj.weight, mixer.in_proj.bias, *mixer.short_filter.operands())
        by_channel = (p.to(self.model.compute_dtype).unflatten(0, (mixer.order + 1, -1)) for p in parameters)
        kernels = mixer.filter_fn(window)[:, :, None]
        own = kernels[..., : window - self.prefix]
        spectra = (torch.fft.rfft(k, n=n) for k, n in zip((kernels, own), self.points, strict=True))
        return _Layer(block, *by_channel, *spectra)

    @torch.no_grad()
    def log_likelihoods(self, windows: Sequence[VariantWindow]) -> list[NDArray[np.float64]]:
        """Return what `likelihoods.log_likelihoods` does, float64 [1 + A] for each of the G variants."""
        device = self.model.backbone.ln_f.weight.device
        counts = [len(window.tokens) for window in windows]
        of = torch.arange(len(windows)).repeat_interleave(torch.tensor(counts)).to(device)
        tokens = torch.from_numpy(np.concatenate([window.tokens for window in windows])).to(device)
        firsts = torch.tensor([0, *np.cumsum(counts)[:-1].tolist()], device=device)
        cut = Parts(tokens[firsts, : self.prefix], tokens[:, self.prefix :])
        embed = self.model.backbone.embeddings.word_embeddings
        x = Parts(*(embed(part) for part in cut))
        for layer in self.layers:
            x = self._mixed(layer, x, of)
            x = Parts(*(layer.block.mlp(part, layer.block.norm2, residual=True) for part in x))
        targets = next_bases(tokens)
        last = self.prefix - 1  # what follows the prefix differs from window to window
        of_prefix = self._nll(x.prefix[:last], targets[firsts, :last])
        of_own = self._nll(torch.cat((x.prefix[last:, of], x.own)), targets[:, last:])
        found = -(of_prefix[of] + of_own).cpu().numpy()
        return np.split(found, np.cumsum(counts)[:-1])

    def _nll(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the losses of each window, float64 [R], of [S, R, D] and targets [R, S]."""
        model = self.model
        norm = model.backbone.ln_f.as_op_input()._replace(dtype=model.compute_dtype)
        weight = (model.lm_head or model.backbone.embeddings.word_embeddings).weight
        return head_nll(x.transpose(0, 1), norm, weight, targets, model.config.vocab_size).double().sum(1)

    def _mixed(self, layer: _Layer, x: Parts, of: Tensor) -> Parts:
        """Return the residual stream after the mixer, [P, G, D] and [S, R, D]; some channels at a time."""
        rows = Parts(*(layer.block.norm1(part).transpose(0, 1) for part in x))  # [G, P, D] and [R, S, D]
        channels = layer.in_bias.shape[1]
        mixed = Parts(*(part.new_empty(channels, *part.shape[:2]) for part in rows))
        padded = sum(len(part) * points for part, points in zip(rows, self.points, strict=True))
        size = max(SMALLEST_GROUP, sizes_of(of.device).padded // padded)
        for first in range(0, channels, size):
            group = slice(first, first + size)
            for whole, part in zip(mixed, self._operator(layer.of(group), rows, of), strict=True):
                whole[group] = part
        out = layer.block.mixer.get_submodule("out_proj")
        return Parts(*(part + out(y.permute(2, 1, 0)) for part, y in zip(x, mixed, strict=True)))

    def _operator(self, layer: _Layer, rows: Parts, of: Tensor) -> Parts:
        """Return the Hyena operator of c channels, [c, G, P] and [c, R, S], of normalised rows."""
        before, own = (_projected(layer, part) for part in rows)
        taps = layer.taps.shape[2]
        halo = before[..., before.shape[3] - (taps - 1) :][:, :, of]
        *gates_before, u = _short(layer, nn.functional.pad(before, (taps - 1, 0)))
        *gates_own, v = _short(layer, torch.cat((halo, own), dim=3))
        gates = zip(reversed(gates_before[1:]), reversed(gates_own[1:]), strict=True)
        for (gate, own_gate), over_all, over_own in zip(gates, layer.over_all, layer.over_own, strict=True):
            reach = _convolved(gate * u, over_all, self.points[0])
            v = _convolved(own_gate * v, over_own, self.points[1])[..., : own.shape[3]]
            v += reach[..., self.prefix : self.prefix + own.shape[3]][:, of]
            u, v = reach[..., : self.prefix].to(gate.dtype), v.to(gate.dtype)
        return Parts(gates_before[0] * u, gates_own[0] * v)


def _projected(layer: _Layer, rows: Tensor) -> Tensor:
    """Return the projections of rows [R, S, D], [N + 1, c, R, S]."""
    weight, bias = layer.in_weight.flatten(0, 1), layer.in_bias.flatten()
    product = torch.addmm(bias[:, None], weight, rows.flatten(0, 1).t())
    return product.view(*layer.in_bias.shape, *rows.shape[:2])


def _short(layer: _Layer, x: Tensor) -> Tensor:
    """Return the short filters of x [N + 1, c, R, K - 1 + S], [N + 1, c, R, S]."""
    taps = layer.taps[..., None, None]
    length = x.shape[3] - taps.shape[2] + 1
    y = torch.addcmul(layer.bias[..., None, None], taps[:, :, 0], x[..., :length])
    for j in range(1, taps.shape[2]):
        y.addcmul_(taps[:, :, j], x[..., j : j + length])
    return y


def _convolved(u: Tensor, spectrum: Tensor, points: int) -> Tensor:
    """Return the circular convolution of u [c, R, S] over so many points, in at least fp32."""
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    return torch.fft.irfft(torch.fft.rfft(u, n=points).mul_(spectrum), n=points)
