"""Nothing in a micro-batch asks for a number that a GPU has still to compute, so that the host stays ahead of it."""

from typing import Any

import pytest
import torch
from torch import Tensor, is_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.train.interval_loss import IntervalLoss
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from tests.distributed.parity import Layout, chunk, data
from tests.distributed.test_zero import OPTIMIZER
from tests.processes import run_ranks

MODEL = ModelConfig(d_model=24, l_max=64, filter_order=8, layer_pattern="HA", num_attention_heads=4, resid_dropout=0.1)
WAITING = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "unique_dim", "_unique2"}
"""Operators of torch for which the host waits on a GPU."""


class Waits(TorchDispatchMode):
    """Notes each wait of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # x[mask] has to count what it takes; torch does x[mask] = 0, as in megatron-core, by masked_fill.
        counts = name == "index" or (name == "index_put_" and args[2].numel() > 1)
        by_mask = any(t.dtype == torch.bool for t in tree_leaves(args[1:2]) if is_tensor(t))
        if name in WAITING or (counts and by_mask):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def waits_of_a_step(layout: Layout, preset: str, recompute: bool) -> tuple[list[str], list[str]]:
    """Return the waits of a step's micro-batches, and those of its update."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    model, read = HyenaDNA(MODEL, mesh), read_preset(preset)
    model.backbone.activation_checkpointing = recompute
    engine = Engine(model, adamw(parameter_groups(model, OPTIMIZER), read), mesh, read, micro_batch_size=2, clip_grad=1)
    inputs, targets = (chunk(x, mesh) for x in data(2 * layout.data, 48))
    weights = torch.full(targets.shape, 0.5)
    losses = IntervalLoss(mesh)
    for _ in range(2):  # some things happen in the second step alone
        total = torch.zeros((), dtype=torch.float64)
        with Waits() as within, model.share_filters(2 if engine.late_gradients else 1):
            for last in (False, True):
                total += engine.accumulate(
                    lambda m: nll_sum(m, inputs, targets, [1, 2], weights), scale=1e-2, last=last
                )
            losses.add(total, 96.0)
        with Waits() as updating:
            engine.step(1e-3)
    return within.found, updating.found


def test_a_wait_is_noticed() -> None:
    x = torch.ones(2)
    for ask in (lambda t: t.sum().item(), lambda t: bool(t.any()), lambda t: float(t[0]), lambda t: t[t > 0]):
        with Waits() as waits:
            ask(x)
        assert waits.found


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("preset", ["zero0", "zero1", "zero2", "zero3"])
def test_micro_batches_wait_for_nothing(preset: str, recompute: bool) -> None:
    ((within, updating),) = run_ranks(1, waits_of_a_step, Layout(), preset, recompute)
    assert not within
    assert updating, "the norm decides whether there is an update"


def test_nor_do_those_of_several_ranks() -> None:
    layout = Layout(tensor=2, context=2, sequence_parallel=True)
    assert not any(within for within, _ in run_ranks(layout.ranks, waits_of_a_step, layout, "zero1", True))


def test_losses_come_to_the_host_together() -> None:
    losses = IntervalLoss(Mesh())
    numbers: list[Tensor] = [torch.tensor(float(i), dtype=torch.float64) for i in range(5)]
    with Waits() as waits:
        for number in numbers:
            losses.add(number, 1.0)
        assert losses.end() == 2.0
    assert not waits.found, "one copy, and no number by itself"
