"""The fused head against its plain reference in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import NormInput, head_nll, reference
from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import EPS, Case, assert_equal, random

VOCAB = 12


@pytest.mark.parametrize("tile", [1, 5, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_reference(tile: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, norm=tile * 6)
    targets = torch.randint(0, VOCAB, (17, 2), generator=torch.Generator().manual_seed(1))
    targets[3:6] = -100

    def arguments(tensors: list[Tensor], dtype: torch.dtype, residual: bool) -> tuple[Any, ...]:
        x, norm_weight, norm_bias, weight = tensors
        return x, NormInput(norm_weight, norm_bias, EPS, dtype), weight, targets, VOCAB

    shapes = [(17, 2, 6), (6,), (6,), (16, 6)]
    case = Case("head_nll", head_nll, reference.head_nll, arguments, shapes)
    assert_equal(case, random(shapes, seed=0), dtype, residual=False)
