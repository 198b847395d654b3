"""The FLOP counter says of an operator what it says of the same computation in torch's own layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import MIXER, MLP, Case, mixer_shapes, mlp_shapes, random

LENGTH, BATCH, D, HIDDEN, ORDER = 64, 2, 8, 24, 3
ROWS = LENGTH * BATCH
CONVOLUTION = 2.5 * 128 * 7  # of one transform: 128 points


def counted(function: Callable[..., Tensor], case: Case, tensors: list[Tensor]) -> tuple[float, float]:
    tensors = [x.clone().requires_grad_() for x in tensors]
    with FlopCounterMode(display=False) as counter:
        y = function(*case.arguments(tensors, torch.float64, True))
        forward = counter.get_total_flops()
        y.sum().backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("keep", [False, True])
def test_mlp(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = random(mlp_shapes(D, HIDDEN, LENGTH, BATCH), seed=0)
    forward, backward = counted(MLP.op, MLP, tensors)
    plain_forward, plain_backward = counted(MLP.reference, MLP, tensors)
    assert forward == plain_forward
    assert backward == plain_backward + (0 if keep else forward / 2)  # fc1 again


@pytest.mark.parametrize("keep", [False, True])
def test_mixer(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    rows = (ORDER + 1) * D
    forward, backward = counted(MIXER.op, MIXER, random(mixer_shapes(ORDER, D, D, BATCH, LENGTH), seed=0))
    products = 2 * ROWS * D * (rows + D)
    kernels = ORDER - 1
    assert forward == pytest.approx(products + D * kernels * (2 * BATCH + 1) * CONVOLUTION)
    again = 0 if keep else 2 * ROWS * D * rows
    # Spectra of input and kernel unless kept, and of the gradient; the inner convolutions again; gradients back.
    spectra = BATCH if keep else BATCH + 1 + BATCH
    per_channel = kernels * spectra + (kernels - 1) * BATCH + kernels * (1 + BATCH)
    assert backward == pytest.approx(2 * products + again + D * per_channel * CONVOLUTION)
