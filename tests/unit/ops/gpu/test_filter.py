"""The implicit filter's kernels against the plain formula in float64: on a GPU if there is one, else interpreted."""

import math

import pytest
import torch
from torch import Tensor

from hyena_dist.bench.launches import count
from hyena_dist.ops import DecayWindow, Features, SineNetwork, implicit_filter, reference
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

VALUES, GRADIENTS = 1e-5, 1e-4


test_in_the_interpreter = in_interpreter(__file__)


class Case:
    """A filter of random parameters in float32, and the gradient of its values."""

    def __init__(self, length: int, channels: int, width: int = 64, depth: int = 3, features: int = 5) -> None:
        g = torch.Generator().manual_seed(length)
        hidden = [(width, features), *[(width, width)] * (depth - 1), *[(width,)] * depth]
        shapes = [*hidden, (1, width), (channels, width), (channels,)]
        self.depth = depth
        self.tensors = [torch.randn(shape, generator=g) / math.sqrt(shape[-1]) for shape in shapes]
        self.tensors[2 * depth] += 2  # the frequencies
        n = torch.arange(length, dtype=torch.float64) / length
        bands = (features - 1) // 2
        angle = 2 * math.pi * n[:, None] * torch.linspace(1e-4, bands - 1, bands)
        self.z = torch.cat((n[:, None], angle.cos(), -angle.sin()), dim=1).float()
        self.t = n.float()
        self.rates = -torch.linspace(3, 15, channels)
        self.dy = torch.randn(channels, length, generator=g)

    def leaves(self, dtype: torch.dtype, skips: bool = True, device: str = DEVICE) -> list[Tensor]:
        tensors = self.tensors if skips else self.tensors[:-1]
        return [t.to(device, dtype).requires_grad_() for t in tensors]

    def values(self, leaves: list[Tensor], ours: bool) -> Tensor:
        device, dtype = leaves[0].device, leaves[0].dtype
        z, t, rates = (tensor.to(device, dtype) for tensor in (self.z, self.t, self.rates))
        n = self.depth
        network = SineNetwork(tuple(leaves[:n]), tuple(leaves[n : 2 * n]), *leaves[2 * n : 2 * n + 2])
        skip = leaves[2 * n + 2] if len(leaves) > 2 * n + 2 else None
        function = implicit_filter if ours else reference.implicit_filter
        return function(Features(z, t), network, DecayWindow(rates, 0.05), skip)

    def results(self, dtype: torch.dtype, ours: bool, skips: bool = True, transposed: bool = False) -> list[Tensor]:
        """Return the values, and the gradients of the parameters."""
        leaves = self.leaves(dtype, skips)
        y = self.values(leaves, ours)
        dy = self.dy.to(DEVICE, dtype)
        dy = dy.t().contiguous().t() if transposed else dy
        return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def agree(found: list[Tensor], exact: list[Tensor]) -> None:
    for i, (actual, expected) in enumerate(zip(found, exact, strict=True)):
        assert actual.shape == expected.shape
        assert actual.dtype == torch.float32
        error = (actual.double() - expected).abs().max() / expected.abs().max()
        assert error <= (GRADIENTS if i else VALUES), (i, error)


class TestFilter:
    __test__ = RUNNABLE

    @pytest.fixture(autouse=True)
    def on_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")

    @pytest.mark.parametrize("length", [1, 37, 300])
    @pytest.mark.parametrize("order", [2, 3])
    def test_value_and_gradients(self, length: int, order: int) -> None:
        case = Case(length, (order - 1) * 48)
        agree(case.results(torch.float32, True), case.results(torch.float64, False))

    @pytest.mark.parametrize(("width", "depth", "features"), [(48, 1, 5), (16, 2, 71), (6, 4, 3), (33, 3, 7)], ids=str)
    def test_other_networks(self, width: int, depth: int, features: int) -> None:
        case = Case(70, 5, width, depth, features)
        agree(case.results(torch.float32, True), case.results(torch.float64, False))

    def test_without_skip_term(self) -> None:
        case = Case(50, 70)
        agree(case.results(torch.float32, True, skips=False), case.results(torch.float64, False, skips=False))

    def test_programs_that_take_several_tiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hyena_dist.ops.triton.filter.PROGRAMS", 2)
        case = Case(173, 70)
        agree(case.results(torch.float32, True, transposed=True), case.results(torch.float64, False))

    def test_two_runs_are_equal_to_the_bit(self) -> None:
        case = Case(70, 6)
        for a, b in zip(case.results(torch.float32, True), case.results(torch.float32, True), strict=True):
            assert torch.equal(a, b)

    def test_what_the_kernels_do_not_take(self) -> None:
        """Networks in float64, and those that are too wide: torch's operators do it."""
        case = Case(37, 5)
        for a, b in zip(case.results(torch.float64, True), case.results(torch.float64, False), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        wide = Case(5, 3, width=130)
        agree(wide.results(torch.float32, True), wide.results(torch.float64, False))


class OnMeta:
    """A filter of a width of 64 and 128 channels on meta tensors, on which nothing runs."""

    def __init__(self, length: int) -> None:
        self.case = case = Case(1, 128)
        case.z, case.t, case.rates = (torch.empty(shape, device="meta") for shape in ((length, 5), (length,), (128,)))
        self.leaves = case.leaves(torch.float32, device="meta")
        self.dy = torch.empty(128, length, device="meta")

    def forward(self) -> Tensor:
        return self.case.values(self.leaves, True)

    def forward_and_backward(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.forward(), self.leaves, self.dy)


@pytest.mark.parametrize("length", [1024, 2**20])
def test_launches_are_the_same_at_all_lengths(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")
    on_meta = OnMeta(length)
    assert count(on_meta.forward).launches == 2
    both = count(on_meta.forward_and_backward)
    assert both.launches == 7, both
    assert both.moved < 7 * on_meta.dy.nbytes + 2**26, both  # the sums of the programs, of which there are at most 264
