"""Windows whose prefix is computed once, beside whole forward passes of the same model."""

import numpy as np
import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.inference.likelihoods import log_likelihoods
from hyena_dist.inference.shared_prefix import SharedPrefix
from hyena_dist.inference.variant_windows import VariantWindow, WindowShape
from hyena_dist.inference.window_likelihoods import WindowLikelihoods
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.system.op_sizes import CPU


def random_model(order: int = 2, pattern: str = "HH", l_max: int = 80) -> HyenaDNA:
    torch.manual_seed(0)
    config = ModelConfig(d_model=32, n_layer=2, l_max=l_max, order=order, layer_pattern=pattern)
    model = HyenaDNA(config).eval()
    for parameter in model.parameters():  # none stays at zero, and none alone decides
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def random_windows(counts: list[int], length: int, shared: int) -> list[VariantWindow]:
    rng = np.random.default_rng(0)
    found = []
    for count in counts:
        tokens = rng.integers(7, 12, (count, length)).astype(np.uint8)  # some are N
        tokens[:, :shared] = tokens[0, :shared]
        tokens[1:, shared] = 7 + (tokens[0, shared] - 6) % 4
        found.append(VariantWindow(tuple(range(count - 1)), tokens, shared))
    return found


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("prefix", [2, 31, 40, 70])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5), (torch.bfloat16, 0.01)]
)
def test_equal_to_full_forward_passes(order: int, prefix: int, dtype: torch.dtype, tolerance: float) -> None:
    model = random_model(order).to(dtype)
    windows = random_windows([2, 4, 2], 80, prefix)
    whole = log_likelihoods(model, windows, 2**16)
    found = SharedPrefix(model, 80, prefix).log_likelihoods(windows)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance)


def test_channels_in_groups_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model().double()
    windows = random_windows([2, 3], 80, 40)
    whole = SharedPrefix(model, 80, 40).log_likelihoods(windows)
    monkeypatch.setattr("hyena_dist.inference.shared_prefix.SMALLEST_GROUP", 5)
    monkeypatch.setattr("hyena_dist.system.op_sizes.CPU", CPU._replace(padded=1))
    for a, b in zip(SharedPrefix(model, 80, 40).log_likelihoods(windows), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_windows_of_both_ways_keep_their_order() -> None:
    model = random_model().double()
    usual, others = random_windows([2, 3, 2], 80, 40), random_windows([2, 2], 80, 13) + random_windows([2], 50, 25)
    windows = [usual[0], others[0], others[2], usual[1], usual[2], others[1]]
    likelihoods = WindowLikelihoods(model, WindowShape(80, 0.5), max_tokens=200)
    assert likelihoods.shared is not None
    for a, b in zip(likelihoods(windows), log_likelihoods(model, windows, 2**16), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.parametrize(("pattern", "position"), [("HA", 0.5), ("AA", 0.5), ("HH", 0.0), ("HH", 0.2)])
def test_where_it_does_not_pay_or_cannot_be_all_passes_are_whole(pattern: str, position: float) -> None:
    model = random_model(pattern=pattern).double()
    windows = random_windows([2, 3], 80, 40)
    likelihoods = WindowLikelihoods(model, WindowShape(80, position), 2**16)
    assert likelihoods.shared is None
    for a, b in zip(likelihoods(windows), log_likelihoods(model, windows, 2**16), strict=True):
        np.testing.assert_array_equal(a, b)
