"""Stretches of positions and groups of channels, put together, are the whole."""

import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from tests.sizes import set_sizes


def test_a_model_in_tiles_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are the same however short the stretches are, with a remainder and without."""
    config = ModelConfig(d_model=16, l_max=64, order=3)
    results = []
    for tile in (10**6, 16, 7):
        set_sizes(monkeypatch, norm=16 * tile, hidden=64 * tile, projections=48 * tile, filter_positions=tile)
        monkeypatch.setattr("hyena_dist.ops.fused.mixer.SMALLEST_GROUP", 3)
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
