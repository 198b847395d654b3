"""Arguments of the fused operators, and their comparison with the plain references in float64."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena_dist.ops import Filters, MLPWeights, NormInput, Projections, gelu_mlp, hyena_mixer, reference

# Of the 2-norm: rounding of float32 and of bf16 products.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
EXACT = [torch.float64, torch.float32]
EPS = 1e-5

Shapes = list[tuple[int, ...]]


class Case(NamedTuple):
    """An operator, its plain reference, and how both take their arguments."""

    name: str
    op: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    arguments: Callable[[list[Tensor], torch.dtype, bool], tuple[Any, ...]]
    """A function (tensors, type of the products, residual) -> the arguments of `op` and `reference`."""
    shapes: Shapes
    """Shapes of small tensors."""


def mixer_arguments(tensors: list[Tensor], dtype: torch.dtype, residual: bool) -> tuple[Any, ...]:
    x, norm_weight, norm_bias, *rest = tensors
    norm = NormInput(norm_weight, norm_bias, EPS, dtype)
    return x, norm, Projections(*rest[:4]), Filters(*rest[4:]), residual


def mlp_arguments(tensors: list[Tensor], dtype: torch.dtype, residual: bool) -> tuple[Any, ...]:
    x, norm_weight, norm_bias, *weights = tensors
    return x, NormInput(norm_weight, norm_bias, EPS, dtype), MLPWeights(*weights), residual


def mixer_shapes(order: int, channels: int, d: int, batch: int, length: int) -> Shapes:
    rows = (order + 1) * channels
    norm_and_projections = [(length, batch, d), (d,), (d,), (rows, d), (rows,), (d, channels), (d,)]
    return [*norm_and_projections, (rows, 3), (rows,), (order - 1, channels, length)]


def mlp_shapes(d: int, hidden: int, rows: int, batch: int = 1) -> Shapes:
    return [(rows, batch, d), (d,), (d,), (hidden, d), (hidden,), (d, hidden), (d,)]


MIXER = Case("mixer", hyena_mixer, reference.hyena_mixer, mixer_arguments, mixer_shapes(2, 4, 4, 1, 32))
MLP = Case("mlp", gelu_mlp, reference.gelu_mlp, mlp_arguments, mlp_shapes(4, 8, 5))


def random(shapes: Shapes, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def assert_equal(case: Case, tensors: list[Tensor], dtype: torch.dtype, residual: bool) -> None:
    """Value and gradients are those of the reference, up to rounding in `dtype`."""
    wide = torch.promote_types(dtype, torch.float32)
    given = [t.to(wide).requires_grad_() for t in tensors]
    exact = [t.detach().double().requires_grad_() for t in given]
    y = case.op(*case.arguments(given, dtype, residual))
    expected = case.reference(*case.arguments(exact, torch.float64, residual))
    assert y.dtype == (wide if residual else dtype)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y.dtype)
    found, wanted = torch.autograd.grad(y, given, dy), torch.autograd.grad(expected, exact, dy.double())
    for actual, value in zip((y, *found), (expected, *wanted), strict=True):
        difference = (actual.detach().double() - value.detach()).norm()
        assert difference <= TOLERANCE[dtype] * value.detach().norm().clamp(min=1e-2 * len(value) ** 0.5)
