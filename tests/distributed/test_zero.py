"""Optimizer steps through DeepSpeed in every layout are those of plain PyTorch in one process."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.optimizer import OptimizerConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import initialize
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from tests.distributed.engine_state import whole_weights
from tests.distributed.parity import Layout, chunk
from tests.processes import run_ranks

# Large initial weights give every parameter a gradient that counts in the norm.
MODEL = ModelConfig(
    d_model=24,
    l_max=64,
    filter_order=8,
    embed_dropout=0.0,
    initializer_range=0.1,
    layer_pattern="HA",
    num_attention_heads=4,
)
OPTIMIZER = OptimizerConfig(lr=1e-3, clip_grad=0.3)
STEPS, MICRO_BATCHES, BATCH, LENGTH = 5, 2, 4, 36
PRESETS = ["zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"]
LAYOUTS = [
    Layout(tensor=2, data=2),
    Layout(context=2, data=2),
    Layout(tensor=2, context=2),
    Layout(tensor=2, context=2, sequence_parallel=True),
]

Steps = tuple[list[float], dict[str, NDArray[np.float32]]]
"""Gradient norm of each step, parameters after the last."""


def micro_batches(step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return inputs and targets [BATCH, LENGTH]; the number of targets that count differs from row to row."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for _ in range(MICRO_BATCHES):
        tokens = torch.randint(7, 12, (BATCH, LENGTH + 1), generator=generator)
        targets = tokens[:, 1:].where(torch.rand(BATCH, LENGTH, generator=generator) < 0.7, -100)
        targets[0, LENGTH // 2 :] = -100
        found.append((tokens[:, :-1], targets))
    return found


def valid_targets(step: int) -> int:
    return sum(int((targets >= 0).sum()) for _, targets in micro_batches(step))


def plain_pytorch() -> Steps:
    torch.manual_seed(0)
    model = HyenaDNA(MODEL)
    optimizer = torch.optim.AdamW(parameter_groups(model, OPTIMIZER), lr=OPTIMIZER.lr, betas=OPTIMIZER.betas)
    norms = []
    for step in range(STEPS):
        for inputs, targets in micro_batches(step):
            loss = model(inputs, targets).nll_sum
            assert loss is not None
            (loss / valid_targets(step)).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip_grad)))
        optimizer.step()
        optimizer.zero_grad()
    return norms, {name: p.detach().numpy() for name, p in model.named_parameters()}


def through_deepspeed(layout: Layout, names: list[str]) -> list[Steps]:
    mesh = initialize(layout.parallel(), timeout_s=60)
    found = []
    for name in names:
        torch.manual_seed(0)
        model, preset = HyenaDNA(MODEL, mesh), read_preset(name)
        optimizer = adamw(parameter_groups(model, OPTIMIZER), preset, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas)
        engine = Engine(
            model, optimizer, mesh, preset, micro_batch_size=BATCH // layout.data, clip_grad=OPTIMIZER.clip_grad
        )
        norms = []
        for step in range(STEPS):
            for index, (inputs, targets) in enumerate(micro_batches(step)):
                seeds = [0] * (BATCH // layout.data)
                mine = chunk(inputs, mesh), chunk(targets, mesh)
                engine.accumulate(
                    lambda m, mine=mine, seeds=seeds: nll_sum(m, *mine, seeds),
                    scale=1 / valid_targets(step),
                    last=index == MICRO_BATCHES - 1,
                )
            norms.append(engine.step(OPTIMIZER.lr)[0])
        found.append((norms, {n: p.numpy().copy() for n, p in whole_weights(engine).items()}))
    return found if mesh.world.is_main else []


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_five_steps(layout: Layout) -> None:
    norms, parameters = plain_pytorch()
    assert min(norms) > OPTIMIZER.clip_grad, "clipping must matter"
    results = run_ranks(layout.ranks, through_deepspeed, layout, PRESETS)[0]
    for name, (found_norms, found) in zip(PRESETS, results, strict=True):
        np.testing.assert_allclose(found_norms, norms, rtol=1e-5, err_msg=name)
        largest = max(np.abs(found[p] - expected).max() for p, expected in parameters.items())
        print(f"{layout} {name}: norms {np.abs(np.divide(found_norms, norms) - 1).max():.1e}, parameters {largest:.1e}")
        for parameter, expected in parameters.items():
            np.testing.assert_allclose(found[parameter], expected, rtol=1e-5, atol=1e-5, err_msg=f"{name} {parameter}")
