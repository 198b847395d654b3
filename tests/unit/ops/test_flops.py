"""What the FLOP counter says of an operator is what it says of the same computation in torch's own layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.unit.ops.fused import test_mixer as t

LENGTH, BATCH, D, HIDDEN, ORDER = 64, 2, 8, 24, 3
ROWS = LENGTH * BATCH
CONVOLUTION = 2.5 * 128 * 7  # of one transform: 128 points


def counted(function: Callable[..., Tensor], *tensors: Tensor, **kwargs: object) -> tuple[float, float]:
    tensors = tuple(x.clone().requires_grad_() for x in tensors)
    with FlopCounterMode(display=False) as counter:
        y = function(*tensors, **kwargs)
        forward = counter.get_total_flops()
        y.sum().backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("keep", [False, True])
def test_mlp(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t.KEEP, keep * 2**20)
    tensors = t.random((LENGTH, BATCH, D), (D,), (D,), (HIDDEN, D), (HIDDEN,), (D, HIDDEN), (D,), seed=0)
    forward, backward = counted(t.mlp, *tensors, dtype=torch.float64, residual=True)
    plain_forward, plain_backward = counted(t.mlp_formula, *tensors, residual=True)
    assert forward == plain_forward
    assert backward == plain_backward + (0 if keep else forward / 2)  # fc1 again


@pytest.mark.parametrize("keep", [False, True])
def test_mixer(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t.KEEP, keep * 2**20)
    rows = (ORDER + 1) * D
    shapes = [(LENGTH, BATCH, D), (D,), (D,), (rows, D), (rows,), (D, D), (D,), (rows, 3), (rows,)]
    tensors = t.random(*shapes, (ORDER - 1, D, LENGTH), seed=0)
    forward, backward = counted(t.mixer, *tensors, dtype=torch.float64, residual=True)
    products = 2 * ROWS * D * (rows + D)
    kernels = ORDER - 1
    assert forward == pytest.approx(products + D * kernels * (2 * BATCH + 1) * CONVOLUTION)
    again = 0 if keep else 2 * ROWS * D * rows
    # Spectra of input and kernel unless kept, and of the gradient; the inner convolutions again; gradients back.
    spectra = BATCH if keep else BATCH + 1 + BATCH
    per_channel = kernels * spectra + (kernels - 1) * BATCH + kernels * (1 + BATCH)
    assert backward == pytest.approx(2 * products + again + D * per_channel * CONVOLUTION)
