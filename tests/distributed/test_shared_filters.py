"""Filters evaluated once per optimizer step train like those evaluated for each micro-batch, in every layout."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.optimizer import OptimizerConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.filter import HyenaFilter
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh, initialize
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.pretraining import nll_sum
from tests.distributed.engine_state import whole_weights
from tests.distributed.parity import Layout, build, chunk, whole_tensors
from tests.processes import run_ranks

MODEL = ModelConfig(
    d_model=24, l_max=64, filter_order=8, order=3, embed_dropout=0.0, initializer_range=0.1, layer_pattern="HH"
)
OPTIMIZER = OptimizerConfig(lr=1e-3, clip_grad=0.3)
STEPS = [(2, 36), (2, 36), (1, 36), (3, 24), (3, 24)]
"""Micro-batches and length of each optimizer step, as stages of a curriculum change them."""
BATCH = 2
PRESETS = ["zero0", "zero1", "zero2", "zero2_offload", "zero3"]
LAYOUTS = [
    Layout(data=2),
    Layout(tensor=2),
    Layout(context=2),
    Layout(tensor=2, context=2),
    Layout(tensor=2, context=2, sequence_parallel=True),
]

Arrays = dict[str, NDArray[np.floating]]


def micro_batch(step: int, index: int, mesh: Mesh) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's inputs and targets."""
    generator = torch.Generator().manual_seed(10 * step + index)
    tokens = torch.randint(7, 12, (BATCH, STEPS[step][1] + 1), generator=generator)
    return chunk(tokens[:, :-1], mesh), chunk(tokens[:, 1:], mesh)


def in_float64(layout: Layout) -> list[list[Arrays]]:
    """Whole gradients and parameters of each step of plain AdamW, with filters shared and not."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    found = [steps_in_float64(mesh, shared) for shared in (True, False)]
    return found if mesh.world.is_main else []


def steps_in_float64(mesh: Mesh, shared: bool) -> list[Arrays]:
    model = build(MODEL, mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found = []
    for step, (number, _) in enumerate(STEPS):
        optimizer.zero_grad()
        with model.share_filters(number if shared else 1):
            for index in range(number):
                model(*micro_batch(step, index, mesh)).nll_sum.backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        for gradient in gradients.values():
            dist.all_reduce(gradient, group=mesh.data_context)
        optimizer.step()
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        found += [arrays(whole_tensors(model, tensors, mesh)) for tensors in (gradients, parameters)]
    return found


def arrays(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy().copy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_and_parameters(layout: Layout) -> None:
    shared, separate = run_ranks(layout.ranks, in_float64, layout)[0]
    for found, expected in zip(shared, separate, strict=True):
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-11, err_msg=name)


class Trained(NamedTuple):
    """The outcome of all steps of a training."""

    evaluations: list[int]
    """Evaluations of all layers' filters in each step."""
    norms: list[float]
    """Norm of each step's gradient."""
    parameters: Arrays
    """Parameters after the last step."""


def through_deepspeed(layout: Layout) -> list[Trained]:
    """Train with separate filters and ZeRO 0, then with filters shared where a preset allows it."""
    mesh = initialize(layout.parallel(), timeout_s=60)
    found = [steps_of_engine(mesh, "zero0", shared=False)]
    found += [steps_of_engine(mesh, name, shared=True) for name in PRESETS]
    return found if mesh.world.is_main else []


def steps_of_engine(mesh: Mesh, name: str, shared: bool) -> Trained:
    torch.manual_seed(0)
    model, preset = HyenaDNA(MODEL, mesh), read_preset(name)
    optimizer = adamw(parameter_groups(model, OPTIMIZER), preset, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas)
    samples = BATCH // mesh.data.size()
    engine = Engine(model, optimizer, mesh, preset, micro_batch_size=samples, clip_grad=OPTIMIZER.clip_grad)
    calls: list[None] = []
    for module in model.modules():
        if isinstance(module, HyenaFilter):  # asks for features of positions once per evaluation, at these lengths
            module.pos_emb.register_forward_hook(lambda *_: calls.append(None))
    evaluations, norms = [], []
    for step, (number, length) in enumerate(STEPS):
        calls.clear()
        with model.share_filters(number if shared and engine.late_gradients else 1):
            for index in range(number):
                inputs, targets = micro_batch(step, index, mesh)
                scale, last = 1 / (number * BATCH * length), index == number - 1
                engine.accumulate(
                    lambda m, x=inputs, y=targets: nll_sum(m, x, y, [0] * samples), scale=scale, last=last
                )
        evaluations.append(len(calls))
        norms.append(engine.step(OPTIMIZER.lr)[0])
    return Trained(evaluations, norms, arrays(whole_weights(engine)))


@pytest.mark.parametrize("layout", [Layout(data=2), Layout(tensor=2, context=2, sequence_parallel=True)], ids=str)
def test_every_zero_stage(layout: Layout) -> None:
    separate, *results = run_ranks(layout.ranks, through_deepspeed, layout)[0]
    assert min(separate.norms) > OPTIMIZER.clip_grad, "clipping must matter"
    assert separate.evaluations == [2 * number for number, _ in STEPS]
    for name, shared in zip(PRESETS, results, strict=True):
        once = name in ("zero0", "zero1", "zero2")
        assert shared.evaluations == ([2] * len(STEPS) if once else separate.evaluations), name
        np.testing.assert_allclose(shared.norms, separate.norms, rtol=1e-5, err_msg=name)
        for parameter, array in separate.parameters.items():
            found = shared.parameters[parameter]
            np.testing.assert_allclose(found, array, rtol=1e-5, atol=1e-5, err_msg=f"{name} {parameter}")
