"""The convolution in one Triton kernel against the plain reference, in Triton's interpreter."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import reference

triton = pytest.importorskip("triton", reason="triton is not installed")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}
TRUNCATED = 2e-4
# 128 and 129, 512 and 513, 2048 and 2049 lie on either side of a change of M.
LENGTHS = (1, 2, 15, 101, 128, 129, 512, 513, 2047, 2048, 2049)


@pytest.fixture(scope="module")
def ops() -> Iterator[ModuleType]:
    """A copy of the module of its own: the decorators decide at import whether kernels are interpreted."""
    spec = importlib.util.find_spec("hyena_dist.bench.candidates.triton_conv")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton.knobs.runtime, "interpret", True)
        spec.loader.exec_module(module)
        yield module


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def error(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float32
    return float((actual.double() - expected).abs().max() / expected.abs().max())


def errors(ops: ModuleType, u: Tensor, k: Tensor, dy: Tensor, **options: str) -> list[float]:
    """The errors of y and du of the convolution, which autograd takes from the plain reference."""
    exact_u = u.double().requires_grad_()
    exact = reference.long_conv(exact_u.transpose(0, 1), k.double()).transpose(0, 1)
    (exact_du,) = torch.autograd.grad(exact, exact_u, dy.double())
    k_f = ops.kernel_spectrum(k, **options)
    return [
        error(ops.fft_conv(u, k_f, **options), exact.detach()),
        error(ops.fft_conv(dy, k_f, conjugate=True, **options), exact_du),
    ]


@pytest.mark.parametrize("length", LENGTHS)
def test_convolution_and_gradients(ops: ModuleType, length: int) -> None:
    u, dy = random(2, 3, length), random(2, 3, length).flip(1)
    assert max(errors(ops, u, random(2, length), dy, precision="tf32x3")) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_batches_and_types(ops: ModuleType, channels: int, batch: int, dtype: torch.dtype) -> None:
    u, dy = random(channels, batch, 100, dtype=dtype), random(channels, batch, 100, dtype=dtype).flip(-1)
    assert max(errors(ops, u, random(channels, 100), dy)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("precision", ["ieee", "tf32x3", "tf32", "bf16x3"])
@pytest.mark.parametrize("length", [100, 300])
def test_precisions_run(ops: ModuleType, precision: str, length: int) -> None:
    """The interpreter computes all in float32 but bf16x3, for which it truncates: 10 times the error of rounding."""
    u, dy = random(2, 2, length), random(2, 2, length).flip(-1)
    tolerance = TRUNCATED if precision == "bf16x3" else 1e-5
    assert max(errors(ops, u, random(2, length), dy, precision=precision)) <= tolerance


def test_the_spectrum_is_that_of_torch(ops: ModuleType) -> None:
    k = random(2, 300)
    k_f = ops.kernel_spectrum(k)
    m = ops.side(300)
    expected = torch.fft.fft(k.double(), n=m * m).view(2, m, m).mT  # frequency k1 + M * k2 at [k1, k2]
    assert error(k_f[:, 0], expected.real) <= 1e-5
    assert error(k_f[:, 1], expected.imag) <= 1e-5


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32x3", 1e-5), (None, TRUNCATED)])
def test_longest(ops: ModuleType, precision: str | None, tolerance: float) -> None:
    """Against torch's FFT: the direct sum would take a matrix of half a gigabyte."""
    length = ops.MOST_POINTS // 2
    u, k = random(1, 1, length), random(1, length)
    u_f, k_f = (torch.fft.rfft(x.double(), n=2 * length) for x in (u, k))
    expected = torch.fft.irfft(u_f * k_f, n=2 * length)[..., :length]
    y = ops.fft_conv(u, ops.kernel_spectrum(k, precision), precision=precision)
    assert error(y, expected) <= tolerance


def test_strided_input(ops: ModuleType) -> None:
    """The layouts of a [B, C, L] and of a [B, L, C] tensor."""
    u, k_f = random(3, 2, 40), ops.kernel_spectrum(random(2, 40))
    expected = ops.fft_conv(u.transpose(0, 1).contiguous(), k_f)
    assert torch.equal(ops.fft_conv(u.transpose(0, 1), k_f), expected)
    assert torch.equal(ops.fft_conv(u.mT.contiguous().permute(2, 0, 1), k_f), expected)


def test_refuses_what_does_not_fit(ops: ModuleType) -> None:
    assert [ops.side(length) for length in (1, 128, 129, 512, 513, 2048, 2049, 8192)] == [
        16, 16, 32, 32, 64, 64, 128, 128,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="needs more than"):
        ops.kernel_spectrum(random(1, 8193))
    with pytest.raises(ValueError, match="spectrum of a kernel"):
        ops.fft_conv(random(1, 1, 100), ops.kernel_spectrum(random(1, 200)))
