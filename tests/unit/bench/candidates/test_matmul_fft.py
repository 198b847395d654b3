"""The transform in matrix products against torch.fft and against the sums that define a convolution."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.bench.candidates.matmul_fft import MatmulTransform, matmul_transform

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
LENGTHS = (1, 2, 3, 8, 31, 64, 127, 500, 1021, 2048, 4999)


def exact(u: Tensor, k: Tensor, conjugate: bool = False) -> Tensor:
    """The causal convolution of u with k, or the correlation, with torch's FFT in float64."""
    n = 2 * u.shape[-1]
    u_f, k_f = torch.fft.rfft(u.double(), n=n), torch.fft.rfft(k.double(), n=n)
    return torch.fft.irfft(u_f * (k_f.conj() if conjugate else k_f), n=n)[..., : u.shape[-1]]


def direct(u: Tensor, k: Tensor) -> Tensor:
    """Return y[t] = sum over s <= t of k[t - s] u[s], each sum by itself."""
    return torch.stack([(k[..., : t + 1].flip(-1) * u[..., : t + 1]).sum(-1) for t in range(u.shape[-1])], -1)


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


def frequencies(level: Any, n: int) -> Tensor:
    """Return the frequency at each position, [n]: split levels put k_a + a * k_b at [k_a, position of k_b]."""
    if not hasattr(level, "rest"):
        return torch.arange(n)
    return (torch.arange(level.a)[:, None] + level.a * frequencies(level.rest, n // level.a)).flatten()


def spectrum_in_order(plan: MatmulTransform, u_f: Tensor) -> Tensor:
    """Return [..., k1, position of k2] by frequency k1 + N1 * k2, the conjugate ones filled in."""
    rows = plan.points // plan.columns
    full = torch.zeros(*u_f.shape[:-2], plan.points, dtype=u_f.dtype)
    k1, k2 = torch.arange(plan.kept)[:, None], frequencies(plan.second, plan.columns)
    full[..., -(k1 + rows * k2) % plan.points] = u_f.conj()
    full[..., k1 + rows * k2] = u_f
    return full


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("product", list(TOLERANCE), ids=str)
def test_convolution_and_correlation(length: int, product: torch.dtype) -> None:
    dtype = torch.float64 if product == torch.float64 else torch.float32
    u, k = random(2, 3, length, dtype=dtype), random(3, length, dtype=dtype)
    plan = matmul_transform(length, dtype, CPU, product)
    u_f, k_f = plan.forward(u), plan.forward(k)
    assert plan.points >= 2 * length - 1
    for actual, expected in (
        (plan.inverse(u_f * k_f), exact(u, k)),
        (plan.inverse(k_f.conj() * u_f), exact(u, k, conjugate=True)),
        (plan.inverse(u_f), u.double()),
    ):
        assert (actual.shape, actual.dtype) == (u.shape, dtype)
        assert error(actual, expected) <= TOLERANCE[product]


@pytest.mark.parametrize("largest", [1024, 64, 16, 4])
@pytest.mark.parametrize("length", [1, 7, 45, 512, 1021])
def test_spectrum_is_that_of_torch(length: int, largest: int) -> None:
    """Small bounds on the matrices make second levels of several levels, and sizes that are no powers of 2."""
    plan = matmul_transform(length, torch.float64, CPU, largest=largest)
    u = random(2, length)
    u_f = plan.forward(u)
    assert error(spectrum_in_order(plan, u_f), torch.fft.fft(u, n=plan.points)) <= 1e-12
    assert error(plan.inverse(u_f), u) <= 1e-12


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 90), batch=st.integers(1, 3), largest=st.sampled_from([4, 16, 1024]), seed=st.integers(0))
def test_equals_the_direct_sum(length: int, batch: int, largest: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed % 2**60)
    u, k = torch.randn(2, batch, length, generator=g, dtype=torch.float64)
    plan = matmul_transform(length, torch.float64, CPU, largest=largest)
    assert (plan.inverse(plan.forward(u) * plan.forward(k)) - direct(u, k)).abs().max() <= 1e-11


@pytest.mark.parametrize("largest", [1024, 256])
def test_a_long_sequence(largest: int) -> None:
    u, k = random(1, 131072, dtype=torch.float32), random(1, 131072, dtype=torch.float32)
    plan = matmul_transform(131072, torch.float32, CPU, largest=largest)
    assert error(plan.inverse(plan.forward(u) * plan.forward(k)), exact(u, k)) <= 1e-5


@pytest.mark.parametrize("size", [1e-7, 1.0, 1e5])
def test_float16_products_survive_any_size(size: float) -> None:
    """Constant sequences have the largest spectra; gradients are often below float16's smallest number."""
    u, k = torch.full((1, 3000), size), random(1, 3000, dtype=torch.float32)
    k += 1
    plan = matmul_transform(3000, torch.float32, CPU, torch.float16)
    assert error(plan.inverse(plan.forward(u) * plan.forward(k)), exact(u, k)) <= 2e-3


def test_zeros_stay_zero_in_float16() -> None:
    plan = matmul_transform(20, torch.float32, CPU, torch.float16)
    assert plan.inverse(plan.forward(torch.zeros(1, 20))).abs().max() == 0


def test_a_small_bound_means_three_levels() -> None:
    plan = MatmulTransform(2**17, torch.float32, CPU, largest=256)
    level: Any = plan.second
    sizes = [plan.table.values.shape]
    while hasattr(level, "rest"):
        sizes.append(level.table.values.shape)
        level = level.rest
    sizes.append(level.table.values.shape)
    assert len(sizes) == 3
    assert max(max(size) for size in sizes) <= 256 + 2


def test_input_may_be_strided() -> None:
    u = random(40, 3).t()
    plan = matmul_transform(40, torch.float64, CPU)
    assert error(plan.inverse(plan.forward(u)), u) <= 1e-12
