"""The fused mixer, MLP and head against the same formulas written with torch's own layers, in float64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops import Filters, MLPWeights, NormInput, Projections, gelu_mlp, head_nll, hyena_mixer
from hyena_dist.ops.fused import mixer as fused_mixer
from hyena_dist.ops.fused import mlp as tiles
from tests.unit.ops.conv.test_gated import formula

# Of the 2-norm: rounding of float32 and of bf16 products.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
EXACT = [torch.float64, torch.float32]
EPS = 1e-5
KEEP = "hyena_dist.ops.fused.buffer_pool.RECOMPUTED_FROM"
VOCAB = 12

Op = Callable[..., Tensor]


def norm_of(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> NormInput:
    return NormInput(weight, bias, EPS, dtype)


def mixer(x: Tensor, nw: Tensor, nb: Tensor, *rest: Tensor, dtype: torch.dtype, residual: bool) -> Tensor:
    return hyena_mixer(x, norm_of(nw, nb, dtype), Projections(*rest[:4]), Filters(*rest[4:]), residual)


def mixer_formula(x: Tensor, nw: Tensor, nb: Tensor, *rest: Tensor, residual: bool) -> Tensor:
    in_weight, in_bias, out_weight, out_bias, *filters = rest
    projected = F.linear(F.layer_norm(x, x.shape[-1:], nw, nb, EPS), in_weight, in_bias).permute(2, 1, 0)
    y = F.linear(formula(projected, *filters).permute(2, 1, 0), out_weight, out_bias)
    return x + y if residual else y


def mlp(x: Tensor, nw: Tensor, nb: Tensor, *weights: Tensor, dtype: torch.dtype, residual: bool) -> Tensor:
    return gelu_mlp(x, norm_of(nw, nb, dtype), MLPWeights(*weights), residual)


def mlp_formula(x: Tensor, nw: Tensor, nb: Tensor, *weights: Tensor, residual: bool) -> Tensor:
    h = F.linear(F.layer_norm(x, x.shape[-1:], nw, nb, EPS), *weights[:2])
    y = F.linear(F.gelu(h, approximate="tanh"), *weights[2:])
    return x + y if residual else y


def random(*shapes: tuple[int, ...], seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def assert_equal(op: Op, reference: Op, tensors: list[Tensor], dtype: torch.dtype, residual: bool) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    given_ = [t.to(wide).requires_grad_() for t in tensors]
    exact = [t.detach().double().requires_grad_() for t in given_]
    y, expected = op(*given_, dtype=dtype, residual=residual), reference(*exact, residual=residual)
    assert y.dtype == (wide if residual else dtype)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(y.dtype)
    found, wanted = torch.autograd.grad(y, given_, dy), torch.autograd.grad(expected, exact, dy.double())
    for actual, value in zip((y, *found), (expected, *wanted), strict=True):
        difference = (actual.detach().double() - value.detach()).norm()
        assert difference <= TOLERANCE[dtype] * value.detach().norm().clamp(min=1e-2 * len(value) ** 0.5)


@settings(max_examples=40, deadline=None)
@given(
    order=st.integers(2, 4), channels=st.integers(1, 6), d=st.integers(4, 8), batch=st.integers(1, 3),
    length=st.integers(1, 30), group=st.integers(1, 6), tile=st.integers(1, 40), residual=st.booleans(),
    keep=st.booleans(), dtype=st.sampled_from(EXACT),
)  # fmt: skip
def test_mixer(
    order: int, channels: int, d: int, batch: int, length: int, group: int, tile: int, residual: bool, keep: bool,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    rows, taps = (order + 1) * channels, 3
    shapes = [(length, batch, d), (d,), (d,), (rows, d), (rows,), (d, channels), (d,), (rows, taps), (rows,)]
    tensors = random(*shapes, (order - 1, channels, length), seed=length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hyena_dist.ops.fused.mixer.GROUP_ELEMENTS", 1)
        patch.setattr("hyena_dist.ops.fused.mixer.SMALLEST_GROUP", group)
        patch.setattr("hyena_dist.ops.fused.norm.TILE", tile * d)
        patch.setattr(KEEP, keep * 2**20)
        assert_equal(mixer, mixer_formula, tensors, dtype, residual)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_in_16_bits(order: int, residual: bool, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a width at which a norm is one; the norm of a handful of numbers magnifies what rounding does to them."""
    monkeypatch.setattr(KEEP, keep * 2**20)
    d, length, hidden, rows = 48, 130, 192, (order + 1) * 48
    shapes = [(length, 2, d), (d,), (d,), (rows, d), (rows,), (d, d), (d,), (rows, 3), (rows,), (order - 1, d, length)]
    tensors = random(*shapes, seed=order)
    for i in (3, 5, 9):
        tensors[i] /= tensors[i].shape[-1] ** 0.5
    assert_equal(mixer, mixer_formula, tensors, torch.bfloat16, residual)
    weights = random((hidden, d), (hidden,), (d, hidden), (d,), seed=order)
    weights[0] /= d**0.5
    weights[2] /= hidden**0.5
    assert_equal(mlp, mlp_formula, [*tensors[:3], *weights], torch.bfloat16, residual)


def test_gaps_between_rows_are_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory used again too: a bf16 product on AMX reads past the end of a row, and NaN times zero is NaN."""
    monkeypatch.setattr(fused_mixer, "new_empty", lambda like, shape, dtype: like.new_full(shape, torch.nan))
    rows = fused_mixer._new_rows(torch.empty(130, 2, 8), 3, torch.float32)
    assert rows.isnan().all()
    gaps = rows.as_strided((3, rows.stride(0) - rows.shape[1]), rows.stride(), rows.shape[1])
    assert gaps.numel()
    assert (gaps == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    d=st.integers(4, 8), hidden=st.integers(1, 20), rows=st.integers(1, 50), tile=st.integers(1, 60),
    residual=st.booleans(), keep=st.booleans(), dtype=st.sampled_from(EXACT),
)  # fmt: skip
def test_mlp(d: int, hidden: int, rows: int, tile: int, residual: bool, keep: bool, dtype: torch.dtype) -> None:
    tensors = random((rows, 1, d), (d,), (d,), (hidden, d), (hidden,), (d, hidden), (d,), seed=rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiles.TILE, "cpu", tile * hidden)
        patch.setattr(KEEP, keep * 2**20)
        assert_equal(mlp, mlp_formula, tensors, dtype, residual)


@pytest.mark.parametrize("tile", [1, 5, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_head(tile: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyena_dist.ops.fused.norm.TILE", tile * 6)
    targets = torch.randint(0, VOCAB, (17, 2), generator=torch.Generator().manual_seed(1))
    targets[3:6] = -100

    def ours(x: Tensor, nw: Tensor, nb: Tensor, weight: Tensor, dtype: torch.dtype, residual: bool) -> Tensor:
        return head_nll(x, norm_of(nw, nb, dtype), weight, targets, VOCAB)

    def plain(x: Tensor, nw: Tensor, nb: Tensor, weight: Tensor, residual: bool) -> Tensor:
        logits = F.linear(F.layer_norm(x, x.shape[-1:], nw, nb, EPS), weight)[..., :VOCAB].flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)

    assert_equal(ours, plain, random((17, 2, 6), (6,), (6,), (16, 6), seed=0), dtype, residual=False)


MIXER_SHAPES = [(32, 1, 4), (4,), (4,), (12, 4), (12,), (4, 4), (4,), (12, 3), (12,), (1, 4, 32)]
MLP_SHAPES = [(5, 1, 4), (4,), (4,), (8, 4), (8,), (4, 8), (4,)]


def test_only_one_kept_tensor_is_not_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual stream, parameters and kernels are there anyway; what the last gate meets is not."""
    monkeypatch.setattr(KEEP, 0)
    tensors = [t.requires_grad_() for t in random(*MIXER_SHAPES, seed=0)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        mixer(*tensors, dtype=torch.float64, residual=True)
    inputs = {t.data_ptr() for t in tensors}
    assert [t.shape for t in kept if t.data_ptr() not in inputs] == [(4, 1, 32)]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("op", "shapes"), [(mixer, MIXER_SHAPES), (mlp, MLP_SHAPES)])
def test_a_second_backward_pass_gives_the_same(
    op: Op, shapes: list[tuple[int, ...]], keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with retain_graph: what was kept is not used up."""
    monkeypatch.setattr(KEEP, keep * 2**20)
    tensors = [t.float().requires_grad_() for t in random(*shapes, seed=0)]
    loss = op(*tensors, dtype=torch.float32, residual=False).square().sum()
    first, second = (torch.autograd.grad(loss, tensors, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shapes_without_data(keep: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile is told about the operators is what they do."""
    monkeypatch.setattr(KEEP, keep * 2**20)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    for op, shapes in ((torch.ops.hyena_dist.mixer, MIXER_SHAPES), (torch.ops.hyena_dist.mlp, MLP_SHAPES)):
        tensors = [t.float().requires_grad_() for t in random(*shapes, seed=0)]
        torch.library.opcheck(op.default, (*tensors, EPS, dtype, True, True), test_utils=checks)


def test_a_second_derivative_is_refused_in_words() -> None:
    tensors = [t.requires_grad_() for t in random(*MLP_SHAPES, seed=0)]
    y = mlp(*tensors, dtype=torch.float64, residual=False)
    [first] = torch.autograd.grad(y.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="the MLP is differentiable once"):
        first.sum().backward()


def test_compiles_as_one_operator() -> None:
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    tensors = random(*MLP_SHAPES, seed=0)
    compiled = torch.compile(lambda *t: mlp(*t, dtype=torch.float64, residual=True), backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), mlp_formula(*tensors, residual=True))
    assert [name for name in seen if "hyena_dist" in name] == ["hyena_dist.mlp.default"]
