"""A mixer that is not in the project: this file and one line that registers it, and all that plans and trains knows it.

    y = out_proj(gate * (taps * value)), a short causal convolution per channel, gated

Shapes: B batch, D d_model, C = D / T channels of this tensor rank, S positions of this context rank, K taps.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.bench.process import in_a_process
from hyena_dist.config.architecture import Architecture
from hyena_dist.config.costs import Flops, Parameter, Shape, Traffic, linear, product
from hyena_dist.config.file import parse_config
from hyena_dist.config.mixers.record import Mixer
from hyena_dist.config.mixers.table import MIXERS
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.base import MixerModule
from hyena_dist.parallel.collectives import left_halo
from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear, normal
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import Partition, local_part
from hyena_dist.plan.fit import fit
from hyena_dist.plan.flops import step_flops
from hyena_dist.plan.memory import GIB, step_memory
from tests.configs import refusal
from tests.distributed.parity import Layout, Result, run_cases
from tests.distributed.training import check_traffic, curve, train_counting
from tests.processes import run_ranks
from tests.tensor_memory import peak_of_tensors


class GatedMixer(MixerModule):
    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__(config, mesh)
        d, std = config.d_model, config.initializer_range
        self.context, self.reach = mesh.context, config.short_filter_order - 1
        self.partitions = {"taps": Partition(0)}
        taps = torch.randn(d, config.short_filter_order)
        self.taps = local_part(taps, self.partitions["taps"], mesh)
        self.in_proj = ColumnLinear(d, 2 * d, mesh=mesh, init=normal(std), blocks=2)
        self.out_proj = RowLinear(d, d, mesh=mesh, init=normal(std / math.sqrt(2 * config.n_layer)))

    def forward(self, x: Tensor, norm: Norm | None = None, residual: bool = False) -> Tensor:
        gate, value = self.in_proj.channels_first(x if norm is None else norm(x)).transpose(0, 1).chunk(2, dim=1)
        halo = left_halo(value, self.reach, self.context)
        value = F.pad(value, (self.reach, 0)) if halo is None else torch.cat((halo, value), dim=2)
        mixed = F.conv1d(value, self.taps.to(value.dtype)[:, None], groups=value.shape[1])
        y: Tensor = self.out_proj((gate * mixed).permute(2, 0, 1))
        return y


def parameters(model: Architecture) -> list[Parameter]:
    d = model.d_model
    taps = Parameter("taps", d * model.short_filter_order, True)
    return [taps, *linear("in_proj", d, 2 * d, column=True), *linear("out_proj", d, d, column=False)]


def kept_bytes(shape: Shape) -> float:
    """The normed input; gate and value, the value with its halo, the convolution, and what goes to out_proj."""
    return shape.activation_bytes * (shape.stream + shape.stream / shape.tensor * 5)


def traffic(shape: Shape) -> list[Traffic]:
    """Every rank but the last sends K - 1 positions to its right."""
    reach, channels, p = shape.model.short_filter_order - 1, shape.model.d_model // shape.tensor, shape.context
    return [Traffic("context", "send", "halo", reach * shape.batch * channels * shape.activation_bytes * (p - 1) / p)]


def flops(shape: Shape) -> Flops:
    d = shape.model.d_model
    return product(shape.rows, 2 * d * d, d * d, d * shape.model.short_filter_order)


GATED = Mixer("G", "gated convolution", f"{__name__}:GatedMixer", parameters, kept_bytes, traffic, flops)
MODEL = {"d_model": 64, "l_max": 128, "filter_order": 8, "embed_dropout": 0.0, "num_attention_heads": 4}


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIXERS, GATED.letter, GATED)  # the one line


def registered(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what function(*arguments) returns, in a process that knows the mixer too."""
    MIXERS[GATED.letter] = GATED
    return function(*arguments)


def run_of(length: int, parallel: dict[str, Any], batch: int = 1, **model: Any) -> RunConfig:
    tree = {
        "data": {"path": "store"},
        "model": {"d_model": 64, "n_layer": 3, "l_max": length, "embed_dropout": 0.0} | model,
        "parallel": {"zero": "zero0"} | parallel,
        "train": {
            "curriculum": [{"seq_length": length, "train_iters": 1}],
            "global_batch_size": batch,
            "micro_batch_size": 1,
        },
    }
    return parse_config(tree, "test")


def test_unknown_letters_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> RunConfig:
        return run_of(128, {}, layer_pattern="HGX")

    known = "choose of H (Hyena), A (attention)"
    assert refusal(asked).endswith(f"no mixer has the letter 'G' of model.layer_pattern; {known}")
    monkeypatch.setitem(MIXERS, GATED.letter, GATED)
    known += ", G (gated convolution)"
    assert refusal(asked).endswith(f"no mixer has the letter 'X' of model.layer_pattern; {known}")


@pytest.mark.usefixtures("gated")
@pytest.mark.parametrize("layout", [Layout(context=2), Layout(tensor=2), Layout(tensor=2, sequence_parallel=True)])
def test_ranks_compute_what_one_process_computes(layout: Layout) -> None:
    config = ModelConfig(**MODEL, layer_pattern="GH", initializer_range=0.1)
    cases = [(config, 2, 48, None, False)]
    ((expected,),), ((actual,), _) = (run_ranks(n.ranks, registered, run_cases, n, cases) for n in (Layout(), layout))
    assert isinstance(expected, Result)
    assert actual.loss == pytest.approx(expected.loss, rel=1e-10)
    assert actual.gradients.keys() == expected.gradients.keys()
    for name, gradient in expected.gradients.items():
        np.testing.assert_allclose(actual.gradients[name], gradient, rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.usefixtures("gated")
@pytest.mark.parametrize("parallel", [{"context_parallel_size": 2}, {"tensor_model_parallel_size": 2}])
def test_a_run_sends_what_is_planned(parallel: dict[str, Any], make_config: Callable[..., RunConfig]) -> None:
    train = {"curriculum": [{"seq_length": 96, "train_iters": 8}], "global_batch_size": 8, "micro_batch_size": 4}
    config = make_config(model=MODEL | {"layer_pattern": "GA"}, parallel=parallel, train=train | {"log_interval": 1})
    run_ranks(2, registered, train_counting, config)
    check_traffic(config, 2)
    losses = [row["train/loss"] for row in curve(config.run_dir) if "train/loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.usefixtures("gated")
def test_parameters() -> None:
    config = ModelConfig(**MODEL, layer_pattern="GHA", n_layer=3)
    held = {name: parameter.numel() for name, parameter in HyenaDNA(config).named_parameters()}
    assert {parameter.name: parameter.numbers for parameter in config.parameters} == held


@pytest.mark.usefixtures("gated")
def test_auto() -> None:
    """The cheapest layout whose memory, by this mixer's own formula, fits."""
    model = {"d_model": 256, "n_layer": 8, "layer_pattern": "G" * 8}
    found = []
    for gib in (3, 6, 12, 40):
        auto = {"context_parallel_size": "auto", "activation_checkpointing": "auto", "device_memory_gib": gib}
        planned = fit(run_of(2**18, auto, batch=8, **model), 8)
        (stage,) = planned.stages(8)
        chosen = (stage.parallel.context_parallel_size, stage.parallel.activation_checkpointing)
        found.append(chosen)
        for context, again in [(c, a) for c in (1, 2, 4, 8) for a in (False, True)]:
            parallel = {"context_parallel_size": context, "activation_checkpointing": again}
            other = run_of(2**18, parallel, batch=8, **model)
            fits = step_memory(other, other.stages(8)[0]).total <= 0.9 * gib * GIB
            if (context, again) == chosen:
                assert fits
                break
            assert not fits
    assert found == [(4, True), (2, True), (1, True), (1, False)]
    assert step_flops(planned, stage) > 0


def measured_step(length: int, again: bool) -> int:
    """Bytes of a step's tensors."""
    torch.manual_seed(0)
    model = HyenaDNA(run_of(length, {}, layer_pattern="GGG").model)
    model.backbone.activation_checkpointing = again
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, targets = torch.randint(7, 11, (2, 1, length))

    def step() -> None:
        loss = model(inputs, targets, skip_logits=True).nll_sum
        assert loss is not None
        loss.backward()
        optimizer.step()

    return peak_of_tensors(step)


@pytest.mark.usefixtures("gated")
@pytest.mark.parametrize("again", [False, True])
def test_memory(again: bool) -> None:
    """The bounds are those of tests/unit/plan/test_memory.py."""
    length = 131_072
    found = in_a_process(registered, measured_step, length, again)
    assert isinstance(found, int), found
    config = run_of(length, {"activation_checkpointing": again}, layer_pattern="GGG")
    formula = step_memory(config, config.stages(1)[0]).total
    assert 0.95 < formula / found < 1.6, f"{formula / GIB:.2f} GiB, measured {found / GIB:.2f} GiB"
