"""FLOPs of a step by formula are those that torch counts, over the formulas of ops/flops.py, in a real step."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, addmm_flop, sdpa_backward_flop_count, sdpa_flop_count

import hyena_dist.ops.flops  # noqa: F401 (registers formulas)
from hyena_dist.config.file import parse_config
from hyena_dist.config.run import RunConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.base import describe_mixers
from hyena_dist.plan.flops import filter_evaluation, step_flops
from hyena_dist.plan.stage import shape_of
from tests.sizes import set_sizes

NOT_REGISTERED = {  # operators that torch has a formula for, but does not count
    torch.ops.aten.addmm_: lambda into, a, b, **_: addmm_flop(into, a, b),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda dy, q, k, v, *_, **__: (
        sdpa_backward_flop_count(dy, q, k, v)
    ),
}


def run_of(
    pattern: str, length: int, *, parallel: dict[str, Any] | None = None, batch: int = 2, micro: int = 2, **model: Any
) -> RunConfig:
    sizes = {"d_model": 32, "n_layer": len(pattern), "l_max": length, "filter_order": 8, "num_attention_heads": 4}
    tree = {
        "data": {"path": "store"},
        "model": sizes | {"layer_pattern": pattern} | model,
        "parallel": {"zero": "zero0"} | (parallel or {}),
        "train": {
            "curriculum": [{"seq_length": length, "train_iters": 1}],
            "global_batch_size": batch,
            "micro_batch_size": micro,
        },
    }
    return parse_config(tree, "test")


def counted(config: RunConfig) -> float:
    """Forward and backward of the run's one micro-batch."""
    (stage,) = config.stages(1)
    torch.manual_seed(0)
    model = HyenaDNA(config.model)
    model.backbone.activation_checkpointing = stage.parallel.activation_checkpointing
    describe_mixers(config.model, torch.device("cpu"), torch.float32)  # tries the back ends, once
    inputs, targets = torch.randint(7, 11, (2, stage.micro_batch_size, stage.seq_length))
    with FlopCounterMode(display=False, custom_mapping=NOT_REGISTERED) as counter:
        loss = model(inputs, targets, skip_logits=True).nll_sum
        assert loss is not None
        loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("pattern", "length", "model"),
    [
        ("H", 96, {}),
        ("HHA", 200, {"order": 3, "emb_dim": 7, "num_inner_mlps": 3, "d_inner": 40}),
        ("AA", 128, {"vocab_size": 20}),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_what_is_counted(
    pattern: str, length: int, model: dict[str, Any], again: bool, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    config = run_of(pattern, length, parallel={"activation_checkpointing": again}, **model)
    (stage,) = config.stages(1)
    # Each operator's count is rounded down to a whole number.
    assert step_flops(config, stage, recomputation=True) == pytest.approx(counted(config), rel=0, abs=4 * len(pattern))
    assert step_flops(config, stage) < step_flops(config, stage, recomputation=True)
    assert step_flops(config, stage) == step_flops(run_of(pattern, length, **model), stage)


def test_layouts_share_the_same_operations() -> None:
    """Operations are the model's: the same however ranks share them; filters count once a data-parallel rank."""
    sizes = {"d_model": 64, "order": 3}
    whole = run_of("HA", 256, batch=8, micro=1, **sizes)
    (alone,) = whole.stages(1)
    shape = shape_of(whole, alone)
    filters = filter_evaluation(shape).forward + filter_evaluation(shape).backward
    sequences = (step_flops(whole, alone) - filters) / 8
    for parallel, ranks, data in (
        ({"context_parallel_size": 4}, 4, 1),
        ({"tensor_model_parallel_size": 2, "zero": "zero3"}, 4, 2),
        ({"activation_checkpointing": True}, 8, 8),
    ):
        cut = run_of("HA", 256, batch=8, micro=1, parallel=parallel, **sizes)
        (stage,) = cut.stages(ranks)
        assert step_flops(cut, stage) == pytest.approx(8 * sequences + data * filters)
        assert step_flops(cut, stage, recomputation=True) > step_flops(cut, stage)
