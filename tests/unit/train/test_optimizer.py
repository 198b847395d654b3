"""Parameter groups and the learning-rate schedule."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.optimizer import OptimizerConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.engine.deepspeed import adamw
from hyena_dist.train.lr import learning_rate
from hyena_dist.train.param_groups import parameter_groups

FILTER = {f"implicit_filter.{name}" for name in ("0.weight", "0.bias", "1.freq", "2.weight", "2.bias", "4.weight",
          "4.bias", "6.weight")}  # fmt: skip
MATRICES = {"mixer.in_proj.weight", "mixer.out_proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("kind", ["paper", "sane"])
def test_groups_hold_every_parameter_once(kind: str, order: int) -> None:
    model = HyenaDNA(ModelConfig(d_model=8, l_max=32, order=order))
    decay, no_decay = parameter_groups(model, OptimizerConfig(param_groups=kind, weight_decay=0.07))
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.07, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    grouped = [id(p) for group in (decay, no_decay) for p in group["params"]]
    assert sorted(grouped) == sorted(names)
    short = {names[id(p)].removeprefix("backbone.").split(".", 2)[-1] for p in decay["params"]}
    if kind == "paper":
        free = {names[id(p)].split("filter_fn.")[-1] for p in no_decay["params"]}
        assert free == FILTER
    else:
        assert short == MATRICES


configs = st.builds(
    OptimizerConfig,
    lr=st.floats(1e-5, 1e-2),
    min_lr=st.floats(0, 1e-5),
    lr_warmup_tokens=st.integers(0, 10_000),
)


@given(configs, st.integers(0, 100_000))
def test_schedule_is_continuous_and_ends_at_min_lr(config: OptimizerConfig, more: int) -> None:
    total = config.lr_warmup_tokens + 1000 + more
    # Steeper than the steeper of the two pieces it cannot be.
    slope = config.lr * max(1 / max(1, config.lr_warmup_tokens), 1.6 / (total - config.lr_warmup_tokens))
    points = sorted({0, 1, config.lr_warmup_tokens, *range(0, total + 1, max(1, total // 200)), total})
    points += [config.lr_warmup_tokens - 1] if config.lr_warmup_tokens else []
    rates = {tokens: learning_rate(config, tokens, total) for tokens in sorted(points)}
    for (a, left), (b, right) in pairwise(rates.items()):
        assert abs(right - left) <= slope * (b - a) * (1 + 1e-6) + 1e-15
        # Up during the warm-up, down after it.
        assert right >= left - 1e-15 if b <= config.lr_warmup_tokens else right <= left + 1e-15
    assert rates[config.lr_warmup_tokens] == pytest.approx(config.lr)
    assert rates[total] == pytest.approx(config.min_lr, abs=1e-18)
    assert learning_rate(config, total + 12345, total) == pytest.approx(config.min_lr, abs=1e-18)


def test_known_rates() -> None:
    config = OptimizerConfig(lr=1.0, min_lr=0.2, lr_warmup_tokens=100)
    rates = [learning_rate(config, tokens, 300) for tokens in (0, 50, 100, 200, 300)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2])


def test_adamw_is_fused_on_a_gpu_alone() -> None:
    preset = read_preset("zero1")
    for device, fused in (("cpu", None), ("cuda", True)):
        with FakeTensorMode():  # it needs no GPU
            group = {"params": [nn.Parameter(torch.empty(3, device=device))]}
            assert adamw([group], preset, lr=1e-3).defaults["fused"] is fused
