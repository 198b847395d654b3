"""The mixer and the operator from GPU kernels against their plain references in float64."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import Filters, NormInput, Projections, hyena_mixer, hyena_operator, long_conv, reference
from hyena_dist.ops.fused import mixer as fused
from hyena_dist.ops.sizes import Sizes, sizes_of
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

VALUES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
GRADIENTS = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
CASES = [
    ((2, 3, 2, 40, 8), True, True, torch.float32),
    ((2, 3, 2, 40, 8), False, False, torch.bfloat16),
    ((2, 2, 1, 1, 20), True, False, torch.float32),
    ((3, 2, 2, 300, 8), True, False, torch.float32),
    ((3, 2, 2, 300, 8), True, True, torch.bfloat16),
    ((4, 2, 1, 33, 70), False, True, torch.float16),
    ((4, 2, 1, 33, 70), True, False, torch.bfloat16),
    ((2, 1, 1, 4100, 8), True, True, torch.bfloat16),
]
"""Order, channels, batch, positions and d_model; residual; whether the projections are kept; type of the products."""

test_in_the_interpreter = in_interpreter(__file__)

Operator = Callable[[list[Tensor], torch.dtype], Tensor]


def value_and_gradients(op: Operator, given: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in given]
    y = op(leaves, dtype)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.device, y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def near(found: Sequence[Tensor], exact: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Value and gradients are near those in float64 in proportion to the largest number of each."""
    for i, (actual, wanted) in enumerate(zip(found, exact, strict=True)):
        allowed = GRADIENTS[dtype] if i else VALUES[dtype]
        assert (actual.double() - wanted).abs().max() <= allowed * wanted.abs().max(), i


class TestOperators:
    __test__ = RUNNABLE

    @pytest.fixture(autouse=True)
    def by_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")

    def tensors(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return stream, norm, projections and filters for order, channels, batch, positions and d_model."""
        order, c, batch, length, d = shape
        g = torch.Generator().manual_seed(length)
        rows = (order + 1) * c
        shapes = [(length, batch, d), (d,), (d,), (rows, d), (rows,), (d, c), (d,)]
        shapes += [(rows, 3), (rows,), (order - 1, c, length)]
        scales = [1, 0.3, 1, d**-0.5, 1, c**-0.5, 1, 1, 1, length**-0.5]
        return [(torch.randn(s, generator=g) * by).to(DEVICE) for s, by in zip(shapes, scales, strict=True)]

    @pytest.mark.parametrize(("shape", "residual", "keep", "dtype"), CASES)
    def test_mixer(
        self, shape: tuple[int, ...], residual: bool, keep: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The projections are kept or made again."""
        sizes: Sizes = sizes_of(torch.device(DEVICE))._replace(recomputed_from=2**30 if keep else 0)
        monkeypatch.setattr("hyena_dist.ops.gpu.mixer.sizes_of", lambda device: sizes)

        def mixer(reference_or_not: Callable[..., Tensor]) -> Operator:
            def run(t: list[Tensor], products: torch.dtype) -> Tensor:
                norm = NormInput(t[1], t[2], 1e-5, products)
                return reference_or_not(t[0], norm, Projections(*t[3:7]), Filters(*t[7:]), residual)

            return run

        given = self.tensors(shape)
        found = value_and_gradients(mixer(hyena_mixer), given, dtype)
        exact = value_and_gradients(mixer(reference.hyena_mixer), [t.double() for t in given], torch.float64)
        assert found[0].dtype == (torch.float32 if residual else dtype)
        assert all(t.dtype == torch.float32 for t in found[1:])
        near(found, exact, dtype)

    @pytest.mark.parametrize("dtype", list(VALUES))
    @pytest.mark.parametrize("shape", [(2, 3, 2, 40, 8), (3, 2, 2, 70, 8)])
    @pytest.mark.parametrize("conv", ["torch.fft", "tensor cores"])
    def test_operator(
        self, conv: str, shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Projections come from a product, as tensor parallelism has them, with the batch in the middle."""
        from hyena_dist.ops.gpu import operator as of_kernels

        monkeypatch.setattr(of_kernels, "_fastest", lambda *operands: of_kernels.CONVOLUTIONS[conv])
        order, c, batch, length, _ = shape
        g = torch.Generator().manual_seed(length)
        projected = torch.randn((order + 1) * c, batch, length, generator=g).to(DEVICE, dtype)
        given = [projected, *self.tensors(shape)[7:]]

        def operator(reference_or_not: Callable[..., Tensor]) -> Operator:
            return lambda t, products: reference_or_not(t[0], Filters(*t[1:]))

        found = value_and_gradients(operator(hyena_operator), given, dtype)
        exact = value_and_gradients(operator(reference.hyena_operator), [t.double() for t in given], torch.float64)
        assert [t.dtype for t in found[:2]] == [dtype, dtype]
        near(found, exact, dtype)

    @pytest.mark.parametrize("dtype", list(VALUES))
    @pytest.mark.parametrize("conv", ["torch.fft", "tensor cores"])
    def test_long_conv(self, conv: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        """The convolution alone, as context parallelism has it, with the batch first."""
        from hyena_dist.ops.gpu import long

        monkeypatch.setattr(long, "fastest", lambda *operands: long.CONVOLUTIONS[conv])
        g = torch.Generator().manual_seed(0)
        given = [torch.randn(2, 3, 70, generator=g).to(DEVICE, dtype), torch.randn(3, 70, generator=g).to(DEVICE)]
        found = value_and_gradients(lambda t, _: long_conv(*t), given, dtype)
        assert [t.dtype for t in found] == [dtype, dtype, torch.float32]
        exact = value_and_gradients(lambda t, _: reference.long_conv(*t), [t.double() for t in given], torch.float64)
        near(found, exact, dtype)

    def test_results_lie_in_memory_as_the_stream_does(self) -> None:
        t = self.tensors((2, 3, 2, 40, 8))
        x = t[0].transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
        y = hyena_mixer(x, NormInput(t[1], t[2], 1e-5, torch.bfloat16), Projections(*t[3:7]), Filters(*t[7:]), True)
        (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
        assert y.stride() == dx.stride() == x.stride()

    def test_takes_what_the_kernels_can_do(self) -> None:
        from hyena_dist.ops.gpu import mixer, operator

        t = self.tensors(CASES[0][0])
        norm = NormInput(t[1], t[2], 1e-5, torch.bfloat16)
        inputs = fused.Inputs(t[0], norm, Projections(*t[3:7]), Filters(*t[7:]), True)
        assert mixer.takes(inputs)
        assert not mixer.takes(inputs._replace(x=t[0].double()))
        assert not mixer.takes(inputs._replace(norm=norm._replace(dtype=torch.float64)))
        assert not mixer.takes(inputs._replace(x=torch.empty(1, 1, 8192, device="meta")))
        assert not operator.takes(operator.Inputs(t[0].double(), inputs.filters))

    def test_two_runs_are_equal_to_the_bit(self) -> None:
        def run() -> list[Tensor]:
            def mixer(t: list[Tensor], products: torch.dtype) -> Tensor:
                norm = NormInput(t[1], t[2], 1e-5, products)
                return hyena_mixer(t[0], norm, Projections(*t[3:7]), Filters(*t[7:]), True)

            return value_and_gradients(mixer, self.tensors(CASES[0][0]), torch.bfloat16)

        assert all(map(torch.equal, run(), run()))
