"""Stretches of positions, put together, are the whole; only their inputs are kept."""

import pytest
import torch
from torch import Tensor, nn

from hyena_dist.config import ModelConfig
from hyena_dist.models import lm
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.tiling import over_positions
from hyena_dist.ops import mixer, mlp


@pytest.mark.parametrize(("length", "batch", "rows"), [(10, 2, 6), (7, 3, 21), (5, 4, 3), (9, 1, 100)])
def test_equals_the_function_on_the_whole(length: int, batch: int, rows: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 5).double()
    seen: list[int] = []

    def function(x: Tensor) -> Tensor:
        seen.append(x.shape[0] * x.shape[1])
        return layer(x).tanh()

    x = torch.randn(length, batch, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(length, batch, 5, dtype=torch.float64)
    y = over_positions(function, rows, x)
    found = torch.autograd.grad((y * weight).sum(), (x, *layer.parameters()))
    expected = layer(x).tanh()
    torch.testing.assert_close(y, expected)
    for a, b in zip(found, torch.autograd.grad((expected * weight).sum(), (x, *layer.parameters())), strict=True):
        torch.testing.assert_close(a, b)
    assert max(seen) <= max(rows, batch)
    with torch.no_grad():
        torch.testing.assert_close(over_positions(function, rows, x), expected)


def test_a_model_in_tiles_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are the same however short the stretches are, with a remainder and without."""
    config = ModelConfig(d_model=16, l_max=64, order=3)
    results = []
    for tile in (10**6, 16, 7):
        monkeypatch.setattr(lm, "HEAD_TILE", tile)
        monkeypatch.setitem(sys.modules["hyena_dist.ops.mlp"].TILE, "cpu", 64 * tile)
        monkeypatch.setattr("hyena_dist.ops.mixer.GROUP_ELEMENTS", 48 * tile)
        monkeypatch.setattr("hyena_dist.ops.mixer.SMALLEST_GROUP", 3)
        monkeypatch.setattr("hyena_dist.ops.implicit_filter.TILE", tile)
        torch.manual_seed(0)
        model = HyenaDNA(config).double().eval()
        ids = torch.randint(7, 11, (2, 48), generator=torch.Generator().manual_seed(1))
        loss = model(ids, ids.roll(-1, 1), skip_logits=True).nll_sum
        assert loss is not None
        loss.backward()
        results.append((loss.detach(), {n: p.grad for n, p in model.named_parameters()}))
    for loss, gradients in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, results[0][1][name], msg=name)
