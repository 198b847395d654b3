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

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.inference.likelihoods import next_bases
from hyena_dist.inference.variant_windows import VariantWindow
from hyena_dist.models.block import Block
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.ops import fast_fft_size, head_nll
from hyena_dist.parallel.linear import Norm


class Parts(NamedTuple):
    """What belongs to the prefixes, and what to the windows' own positions."""

    prefix: Tensor
    own: Tensor


class _Layer(NamedTuple):
    """A layer, and the spectra of its filters."""

    block: Block
    mixer: HyenaMixer
    over_all: Tensor
    """For the prefixes, whose values reach all positions; complex [N - 1, C, 1, points // 2 + 1]."""
    over_own: Tensor
    """For the windows' own positions, likewise."""


class SharedPrefix:
    """The model over windows of one length whose prefixes have one length, in evaluation mode and in one process.

    Args:
        model: its layers are Hyena's (`can_share`).
        window: W.
        prefix: P, from the short filters' K - 1 on.
    """

    @torch.no_grad()
    def __init__(self, model: HyenaDNA, window: int, prefix: int) -> None:
        self.model = model
        self.prefix = prefix
        # Sums that wrap around fall on the prefix's first positions, or behind the window.
        self.points = Parts(*torch.Size((fast_fft_size(window + prefix - 1), fast_fft_size(2 * (window - prefix) - 1))))
        self.layers = []
        for block in model.backbone.layers:
            mixer: HyenaMixer = block.mixer
            kernels = mixer.filter_fn(window)[:, :, None]
            own = kernels[..., : window - prefix]
            spectra = (torch.fft.rfft(k, n=n) for k, n in zip((kernels, own), self.points, strict=True))
            self.layers.append(_Layer(block, mixer, *spectra))

    @torch.no_grad()
    def log_likelihoods(self, windows: list[VariantWindow]) -> list[NDArray[np.float64]]:
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
        nll = (
            self._nll(part, of_part)
            for part, of_part in zip(x, (targets[firsts, : self.prefix], targets[:, self.prefix :]), strict=True)
        )
        of_prefix, of_own = (part.double().sum(1) for part in nll)
        found = -(of_prefix[of] + of_own).cpu().numpy()
        return np.split(found, np.cumsum(counts)[:-1])

    def _nll(self, x: Tensor, targets: Tensor) -> Tensor:
        model = self.model
        norm = model.backbone.ln_f.as_op_input()._replace(dtype=model.compute_dtype)
        weight = (model.lm_head or model.backbone.embeddings.word_embeddings).weight
        return head_nll(x.transpose(0, 1), norm, weight, targets, model.config.vocab_size)

    def _mixed(self, layer: _Layer, x: Parts, of: Tensor) -> Parts:
        """Return the residual stream after the mixer, [P, G, D] and [S, R, D]."""
        mixer = layer.mixer
        taps, bias = mixer.short_filter.operands()
        before, own = (_projected(mixer, layer.block.norm1, part) for part in x)  # [(N + 1) C, G, P], [.., R, S]
        halo = before[:, of, before.shape[2] - (taps.shape[1] - 1) :]
        *gates_before, u = _short(before, taps, bias, torch.zeros_like(before[..., : halo.shape[2]])).chunk(
            mixer.order + 1
        )
        *gates_own, v = _short(own, taps, bias, halo).chunk(mixer.order + 1)
        gates = zip(reversed(gates_before[1:]), reversed(gates_own[1:]), strict=True)
        for (gate, own_gate), over_all, over_own in zip(gates, layer.over_all, layer.over_own, strict=True):
            reach = _convolved(gate * u, over_all, self.points.prefix)
            v = _convolved(own_gate * v, over_own, self.points.own)[..., : v.shape[2]]
            v = v + reach[..., self.prefix : self.prefix + v.shape[2]][:, of]
            u, v = reach[..., : self.prefix].to(gate.dtype), v.to(gate.dtype)
        y = (gates_before[0] * u, gates_own[0] * v)
        return Parts(*(part + mixer.out_proj(z.permute(2, 1, 0)) for part, z in zip(x, y, strict=True)))


def can_share(config: ModelConfig) -> bool:
    """Return whether all layers are Hyena's."""
    return set(config.mixers) == {"H"}


def _projected(mixer: HyenaMixer, norm: Norm, x: Tensor) -> Tensor:
    return mixer.in_proj.channels_first(norm(x))


def _short(x: Tensor, taps: Tensor, bias: Tensor, halo: Tensor) -> Tensor:
    """Return the short filters of x [C, R, S], before which halo [C, R, K - 1] is."""
    x = torch.cat((halo, x), dim=2)
    length = x.shape[2] - halo.shape[2]
    y = bias[:, None, None].to(x.dtype).expand(*x.shape[:2], length)
    for j in range(taps.shape[1]):
        y = y + taps[:, j, None, None].to(x.dtype) * x[..., j : j + length]
    return y


def _convolved(u: Tensor, spectrum: Tensor, points: int) -> Tensor:
    """Return the circular convolution over so many points, in at least fp32."""
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    return torch.fft.irfft(torch.fft.rfft(u, n=points) * spectrum, n=points)
