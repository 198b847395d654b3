"""Stretches of positions and groups of channels, put together, are the whole."""

import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops.fused import mlp


def test_a_model_in_tiles_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are the same however short the stretches are, with a remainder and without."""
    config = ModelConfig(d_model=16, l_max=64, order=3)
    results = []
    for tile in (10**6, 16, 7):
        monkeypatch.setattr("hyena_dist.ops.fused.norm.TILE", 16 * tile)
        monkeypatch.setitem(mlp.TILE, "cpu", 64 * tile)
        monkeypatch.setattr("hyena_dist.ops.fused.mixer.GROUP_ELEMENTS", 48 * tile)
        monkeypatch.setattr("hyena_dist.ops.fused.mixer.SMALLEST_GROUP", 3)
        monkeypatch.setattr("hyena_dist.ops.fused.filter.TILE", tile)
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
