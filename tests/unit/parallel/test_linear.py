"""The layers of megatron-core as this project uses them, in one process."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hyena_dist.parallel.linear import ColumnLinear, RowLinear, VocabEmbedding, vocab_logits, vocab_parallel_nll
from hyena_dist.parallel.mesh import Mesh

LAYERS = {
    "column": lambda: ColumnLinear(6, 12, mesh=Mesh(), init=nn.init.normal_, blocks=3),
    "column without bias": lambda: ColumnLinear(6, 12, mesh=Mesh(), init=nn.init.normal_, bias=False),
    "row": lambda: RowLinear(6, 12, mesh=Mesh(), init=nn.init.normal_),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_is_a_linear_layer_in_the_type_of_its_input(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    if layer.bias is not None:
        assert not layer.bias.any()
        nn.init.normal_(layer.bias)
    x = torch.randn(5, 2, 6, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    bias = None if layer.bias is None else layer.bias.to(dtype)
    assert torch.equal(y, F.linear(x, layer.weight.to(dtype), bias))
    y.float().sum().backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize("kind", LAYERS)
def test_state_is_that_of_a_linear_layer(kind: str) -> None:
    layer = LAYERS[kind]()
    plain = nn.Linear(6, 12, bias=layer.bias is not None)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    layer.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(layer.weight, plain.weight)


def test_a_seed_gives_the_same_weights() -> None:
    for build in LAYERS.values():
        torch.manual_seed(4)
        first = build()
        torch.manual_seed(4)
        assert torch.equal(build().weight, first.weight)


def test_embedding_and_tied_head() -> None:
    embedding = VocabEmbedding(16, 6, mesh=Mesh(), init=nn.init.normal_)
    assert list(embedding.state_dict()) == ["weight"]
    ids = torch.tensor([[7, 8, 15], [0, 11, 9]])
    x = embedding(ids)
    assert torch.equal(x, embedding.weight[ids.t()])  # the sequence comes first
    logits = vocab_logits(x, embedding.weight, Mesh())
    torch.testing.assert_close(logits, x @ embedding.weight.T)
    assert vocab_logits(x.bfloat16(), embedding.weight, Mesh()).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nll_is_cross_entropy_over_the_real_vocabulary(dtype: torch.dtype) -> None:
    logits = (torch.randn(7, 3, 16, dtype=dtype) * 30).requires_grad_()
    targets = torch.randint(0, 12, (7, 3))
    targets[::2, 1] = -100
    nll = vocab_parallel_nll(logits, targets, 12, Mesh())
    assert nll.dtype == dtype
    weight = torch.randn(7, 3, dtype=dtype)
    (nll * weight).sum().backward()
    found, logits.grad = logits.grad, None
    expected = F.cross_entropy(logits[..., :12].flatten(0, 1), targets.flatten(), reduction="none").view(7, 3)
    torch.testing.assert_close(nll, expected)
    (expected * weight).sum().backward()
    torch.testing.assert_close(found, logits.grad)
    assert not found[..., 12:].any()
    assert not found[::2, 1].any()
