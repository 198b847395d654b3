"""Records in and out of registered operators, for autograd, torch.compile and whoever asks for too much."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hyena_dist.ops.fused import mixer, mlp
from hyena_dist.ops.record_op import RecordOp, flatten
from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import MIXER, MLP, Case, random


class Scale(NamedTuple):
    by: Tensor
    power: int


class Inputs(NamedTuple):
    x: Tensor
    scale: Scale
    index: Tensor
    double: bool


def forward(inputs: Inputs, keep: bool) -> tuple[Tensor, Tensor | None]:
    factor = inputs.scale.by**inputs.scale.power * (1 + inputs.double)
    return inputs.x[inputs.index] * factor, factor if keep else None


def backward(dy: Tensor, inputs: Inputs, factor: Tensor) -> Inputs:
    x, (by, power), index, _ = inputs
    dx = torch.zeros_like(x).index_add_(0, index, dy * factor)
    d_by = (dy * x[index]).sum() * factor * power / by
    return inputs._replace(x=dx, scale=Scale(d_by, power))


SCALED = RecordOp(
    "scaled_for_a_test", "scaling", Inputs, forward=forward, empty=forward, kept=lambda kept: kept[0], backward=backward
)


def test_gradients_come_in_the_inputs_record() -> None:
    x, by = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.tensor(1.5).double().requires_grad_()
    index = torch.tensor([3, 0, 3])
    assert torch.autograd.gradcheck(lambda x, by: SCALED(Inputs(x, Scale(by, 3), index, True)), (x, by))
    torch.testing.assert_close(SCALED(Inputs(x, Scale(by, 3), index, True)), 2 * by**3 * x[index])


def test_the_schema_names_every_field() -> None:
    schema = str(torch.ops.hyena_dist.scaled_for_a_test.default._schema)
    assert "(Tensor x, Tensor scale_by, SymInt scale_power, Tensor index, bool double, bool keep)" in schema


def test_records_survive_being_flat() -> None:
    inputs = Inputs(torch.ones(2), Scale(torch.ones(()), 3), torch.tensor([1]), False)
    assert SCALED.forward_arguments([*flatten(inputs), True]) == (inputs, True)
    assert flatten((None, [inputs.x, (None, inputs.index)])) == [inputs.x, inputs.index]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("case", "record"), [(MIXER, mixer.Inputs), (MLP, mlp.Inputs)])
def test_shapes_without_data(
    case: Case, record: type, keep: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operators do what torch.compile is told about them."""
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    tensors = [t.float().requires_grad_() for t in random(case.shapes, seed=0)]
    inputs = record(*case.arguments(tensors, dtype, True))
    op = getattr(torch.ops.hyena_dist, case.name).default
    torch.library.opcheck(op, (*flatten(inputs), True), test_utils=checks)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("case", [MIXER, MLP])
def test_a_second_backward_pass_gives_the_same(case: Case, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backward pass with retain_graph does not use up what was kept."""
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = [t.float().requires_grad_() for t in random(case.shapes, seed=0)]
    loss = case.op(*case.arguments(tensors, torch.float32, False)).square().sum()
    first, second = (torch.autograd.grad(loss, tensors, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("case", [MIXER, MLP])
def test_under_activation_checkpointing(case: Case, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = [t.requires_grad_() for t in random(case.shapes, seed=0)]

    def run(*tensors: Tensor) -> Tensor:
        return case.op(*case.arguments([*tensors], torch.float64, True))

    expected = torch.autograd.grad(run(*tensors).square().sum(), tensors)
    found = torch.autograd.grad(checkpoint(run, *tensors, use_reentrant=False).square().sum(), tensors)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(("case", "title"), [(MIXER, "Hyena mixer"), (MLP, "MLP")])
def test_a_second_derivative_is_refused_in_words(case: Case, title: str) -> None:
    tensors = [t.requires_grad_() for t in random(case.shapes, seed=0)]
    y = case.op(*case.arguments(tensors, torch.float64, False))
    [first] = torch.autograd.grad(y.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(NotImplementedError, match=f"the {title} is differentiable once"):
        first.sum().backward()


@pytest.mark.parametrize("case", [MIXER, MLP])
def test_compiles_as_one_operator(case: Case) -> None:
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    tensors = random(case.shapes, seed=0)
    compiled = torch.compile(
        lambda *t: case.op(*case.arguments([*t], torch.float64, True)), backend=backend, fullgraph=True
    )
    torch.testing.assert_close(compiled(*tensors), case.reference(*case.arguments(tensors, torch.float64, True)))
    assert [name for name in seen if "hyena_dist" in name] == [f"hyena_dist.{case.name}.default"]
