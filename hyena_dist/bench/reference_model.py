"""The published operator's formulas written down plainly: what `bench operator` compares ours with.

Layouts, the depthwise Conv1d, the transform of 2 L points and the separate skip term are those of the HyenaDNA paper's
code; nothing is fused, tiled or recomputed. It runs on a model of ours, with the same weights.

Shapes: B batch, L length, D d_model, N order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.models.block import MLP, Block
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.ops.reference import filter_values
from hyena_dist.parallel.linear import Norm


class PublishedMixer(nn.Module):
    """The computation of a HyenaMixer in one process, as the paper's code does it."""

    adds_residual = False

    def __init__(self, mixer: HyenaMixer) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the mixer's value of norm(x), [L, B, D] as x is."""
        m = self.mixer
        length = x.shape[0]
        u = m.in_proj(norm(x).transpose(0, 1)).transpose(1, 2)  # [B, (N + 1) D, L]
        short = m.short_filter
        taps = short.weight.shape[-1]
        u = F.conv1d(u, short.weight.to(u.dtype), short.bias.to(u.dtype), padding=taps - 1, groups=u.shape[1])
        *gates, v = u[..., :length].chunk(m.order + 1, dim=1)
        f = m.filter_fn
        z, t = f.pos_emb(0, length, f.bias.dtype, f.bias.device)
        h = filter_values(f.implicit_filter.as_op_input(), f.modulation.as_op_input(), z, t)
        kernels = h.t().view(m.order - 1, -1, length)
        skips = f.bias.view(m.order - 1, -1)
        for gate, k, skip in zip(reversed(gates[1:]), kernels, skips, strict=True):
            v = fft_conv(v * gate, k, skip)
        y: Tensor = m.out_proj((v * gates[0]).transpose(1, 2)).transpose(0, 1)
        return y


class PublishedMLP(nn.Module):
    """The computation of an MLP without stretches or recomputation."""

    adds_residual = False

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the MLP's value of norm(x), [L, B, D] as x is."""
        y: Tensor = self.mlp.fc2(F.gelu(self.mlp.fc1(norm(x)), approximate="tanh"))
        return y


def fft_conv(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
    """Return the causal convolution of u [B, D, L] with k [D, L], plus skip [D] times u, by FFTs of 2 L points."""
    size = 2 * u.shape[-1]
    k_f = torch.fft.rfft(k, n=size) / size
    u_f = torch.fft.rfft(u.to(k.dtype), n=size)
    y = torch.fft.irfft(u_f * k_f, n=size, norm="forward")[..., : u.shape[-1]]
    return (y + u * skip[:, None]).to(u.dtype)


def as_published(model: HyenaDNA) -> HyenaDNA:
    """Replace a model's Hyena mixers and MLPs by the published computation, with the same parameters; return it."""
    for layer in model.backbone.layers:
        assert isinstance(layer, Block)
        if isinstance(layer.mixer, HyenaMixer):
            layer.mixer = PublishedMixer(layer.mixer)
        assert isinstance(layer.mlp, MLP)
        layer.mlp = PublishedMLP(layer.mlp)  # type: ignore[assignment]
    return model
