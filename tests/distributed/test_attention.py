"""Attention over context ranks computes what one process computes."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.models.mixers.attention import AttentionMixer
from hyena_dist.parallel.mesh import Mesh, initialize
from tests.processes import run_ranks


class Case(NamedTuple):
    heads: int
    head_dim: int
    batch: int
    chunk: int
    """Positions of one context rank."""


CASES = {
    2: [Case(4, 8, 1, 7), Case(4, 6, 3, 11), Case(3, 4, 1, 9), Case(3, 4, 3, 5)],
    4: [Case(4, 8, 1, 5), Case(4, 2, 3, 3), Case(6, 4, 3, 7), Case(4, 4, 2, 1)],
}


def forward_and_backward(case: Case, mesh: Mesh, ranks: int) -> dict[str, np.ndarray]:
    """Output and input gradient of this rank's positions, and its part of the parameters' gradients."""
    config = ModelConfig(
        d_model=case.heads * case.head_dim, num_attention_heads=case.heads, layer_pattern="AA", initializer_range=0.5
    )
    torch.manual_seed(0)
    mixer = AttentionMixer(config, mesh).double()
    g = torch.Generator().manual_seed(1)
    shape = (ranks * case.chunk, case.batch, config.d_model)
    x, dy = (
        torch.randn(shape, generator=g, dtype=torch.float64).chunk(mesh.context.size())[mesh.context.rank()]
        for _ in range(2)
    )
    x.requires_grad_()
    y = mixer(x)
    y.backward(dy)
    gradients = {name: p.grad for name, p in mixer.named_parameters()}
    return {name: t.detach().numpy() for name, t in ({"y": y, "dx": x.grad} | gradients).items()}


def on_a_rank(cases: list[Case], ranks: int) -> list[dict[str, np.ndarray]]:
    mesh = initialize(ParallelConfig(context_parallel_size=ranks), timeout_s=60)
    return [forward_and_backward(case, mesh, ranks) for case in cases]


@pytest.mark.parametrize("ranks", CASES)
def test_context_ranks_compute_what_one_process_computes(ranks: int) -> None:
    parts = run_ranks(ranks, on_a_rank, CASES[ranks], ranks)
    for case, *of_ranks in zip(CASES[ranks], *parts, strict=True):
        expected = forward_and_backward(case, Mesh(), ranks)
        for name, exact in expected.items():
            pieces = [part[name] for part in of_ranks]
            actual = np.concatenate(pieces) if name in ("y", "dx") else np.sum(pieces, axis=0)
            assert actual.shape == exact.shape
            assert np.abs(actual - exact).max() <= 1e-10 * np.abs(exact).max(), (case, name)


def exchanges() -> list[list[int]]:
    """Numbers sent to other ranks in each all-to-all, forward and then backward."""
    mesh = initialize(ParallelConfig(context_parallel_size=2), timeout_s=60)
    sent: list[int] = []
    original = dist.all_to_all_single

    def count(receive: Any, send: Any, receive_counts: list[int], send_counts: list[int], **kwargs: Any) -> Any:
        rows = sum(send_counts) - send_counts[mesh.context.rank()]
        sent.append(rows * send[0].numel())
        return original(receive, send, receive_counts, send_counts, **kwargs)

    dist.all_to_all_single = count
    forward_and_backward(Case(heads=3, head_dim=4, batch=2, chunk=5), mesh, 2)
    return sent


def test_one_exchange_out_and_one_back() -> None:
    # Positions x batch x head size = 40 numbers a head; rank 0 attends with two of the three heads, rank 1 with one.
    first, second = run_ranks(2, exchanges)
    assert first == [3 * 40, 2 * 40, 40, 2 * 3 * 40]
    assert second == [2 * 3 * 40, 40, 2 * 40, 3 * 40]
