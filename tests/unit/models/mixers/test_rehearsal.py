"""The rehearsal of a mixer, by which choices are timed before a stage begins."""

from typing import Any, NamedTuple

import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers import hyena
from hyena_dist.models.mixers.hyena import HyenaMixer
from hyena_dist.parallel.mesh import Mesh


class Group(NamedTuple):
    ranks: int

    def size(self) -> int:
        return self.ranks


@pytest.mark.parametrize(("tensor", "context", "channels"), [(1, 1, 8), (2, 1, 4), (1, 4, 2), (2, 2, 2)])
def test_the_operator_gets_what_a_rank_has(
    tensor: int, context: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences are whole, channels and types those of the rank, but filters are float32 in any case."""
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(d_model=8, l_max=64, order=3))
    mixer = next(module for module in model.modules() if isinstance(module, HyenaMixer))
    monkeypatch.setattr(mixer, "mesh", Mesh(tensor=Group(tensor), context=Group(context)))
    operands: list[Any] = []
    operator = hyena.hyena_operator
    monkeypatch.setattr(hyena, "hyena_operator", lambda *given: (operands.append(given), operator(*given))[1])
    before = torch.get_rng_state()
    mixer.rehearse(20, 2, torch.bfloat16)
    ((projected, filters),) = operands
    assert (projected.shape, projected.dtype) == ((4 * channels, 2, 20), torch.bfloat16)
    assert [f.shape for f in filters] == [(4 * channels, 3), (4 * channels,), (2, channels, 20)]
    assert {f.dtype for f in filters} == {torch.float32}
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in model.parameters())
