"""GPTModel of megatron-core with our mixers computes what HyenaDNA computes, trained and saved in Megatron's way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.megatron import (
    MixerAsAttention,
    gpt_arguments,
    gpt_state_dict,
    hyena_state_dict,
)
from hyena_dist.parallel.mesh import Mesh, initialize
from tests.distributed.parity import Layout, build, chunk, data
from tests.processes import run_ranks

# vocab_size is the padded one: GPTModel gives every column probability.
SMALL: dict[str, Any] = {"d_model": 16, "l_max": 40, "filter_order": 8, "vocab_size": 16, "embed_dropout": 0.0}
CONFIGS = (
    ModelConfig(**SMALL),
    ModelConfig(**SMALL, order=3),
    ModelConfig(**SMALL, layer_pattern="HA", num_attention_heads=2),
    ModelConfig(**SMALL, tie_embeddings=False),
)
LAYOUTS = (Layout(), Layout(tensor=2), Layout(tensor=2, sequence_parallel=True), Layout(context=2))


def start(layout: Layout) -> Mesh:
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

    mesh = initialize(layout.parallel(), timeout_s=60)
    model_parallel_cuda_manual_seed(1)
    return mesh


def gpt_model(config: ModelConfig, **overrides: Any) -> Any:
    from megatron.core.models.gpt import GPTModel

    return GPTModel(**gpt_arguments(config, **overrides))


def gradients(gpt: Any, inputs: Tensor, targets: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Sum of the losses, and the gradients that Megatron's data parallelism and finalize_model_grads leave."""
    from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads

    model = DistributedDataParallel(gpt.config, DistributedDataParallelConfig(), gpt)
    nll = model(inputs, None, None, labels=targets)
    loss = nll[targets >= 0].sum()
    loss.backward()
    finalize_model_grads([model])
    return loss.item(), {name: p.main_grad for name, p in gpt.named_parameters()}


def difference(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest value."""
    return ((a - b).abs().max() / b.abs().max()).item()


def compare(layout: Layout) -> list[dict[str, float]]:
    """Relative differences of the logits, the loss and each gradient, per model."""
    mesh, found = start(layout), []
    for config in CONFIGS:
        ours = build(config, mesh)
        gpt = gpt_model(config, sequence_parallel=layout.sequence_parallel, calculate_per_token_loss=True).double()
        gpt.load_state_dict(gpt_state_dict(ours.state_dict()))
        inputs, targets = (chunk(x, mesh) for x in data(2, 24))
        out = ours(inputs, targets)
        out.nll_sum.backward()
        logits = difference(gpt(inputs, None, None).detach(), out.logits.detach())
        loss, theirs = gradients(gpt, inputs, targets)
        differences = {"logits": logits, "loss": abs(loss / out.nll_sum.item() - 1)}
        named = hyena_state_dict(theirs)
        assert named.keys() == dict(ours.named_parameters()).keys()
        for name, parameter in ours.named_parameters():
            dist.all_reduce(parameter.grad, group=mesh.data_context)
            differences[name] = difference(named[name], parameter.grad)
        found.append(differences)
    return found


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_equals_hyenadna(layout: Layout) -> None:
    for rank in run_ranks(layout.ranks, compare, layout):
        for differences in rank:
            assert max(differences.values()) < 1e-5, differences


def save(layout: Layout, folder: Path) -> None:
    from megatron.core import dist_checkpointing

    mesh = start(layout)
    for i, config in enumerate(CONFIGS):
        gpt = gpt_model(config, sequence_parallel=layout.sequence_parallel).double()
        gpt.load_state_dict(gpt_state_dict(build(config, mesh).state_dict()))
        if mesh.world.is_main:
            (folder / str(i)).mkdir()
        mesh.world.barrier()
        dist_checkpointing.save(gpt.sharded_state_dict(), str(folder / str(i)))


def load(layout: Layout, folder: Path) -> list[bool]:
    from megatron.core import dist_checkpointing

    mesh, equal = start(layout), []
    for i, config in enumerate(CONFIGS):
        gpt = gpt_model(config).double()
        gpt.load_state_dict(dist_checkpointing.load(gpt.sharded_state_dict(), str(folder / str(i))))
        state = hyena_state_dict(gpt.state_dict())
        equal += [torch.equal(state[name], value) for name, value in build(config, mesh).state_dict().items()]
    return equal


def test_a_checkpoint_of_two_tensor_ranks_loads_on_one(tmp_path: Path) -> None:
    run_ranks(2, save, LAYOUTS[2], tmp_path)
    (equal,) = run_ranks(1, load, LAYOUTS[0], tmp_path)
    assert all(equal)
    assert len(equal) > 30


def recomputed() -> float:
    """Largest difference that recomputation makes to gradients, with dropout and sequence parallelism."""
    mesh = start(LAYOUTS[2])
    config = CONFIGS[2].model_copy(update={"embed_dropout": 0.1, "resid_dropout": 0.1})
    inputs, targets = data(2, 24)
    recompute = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    results: list[dict[str, Tensor]] = []
    for overrides in ({}, recompute):
        start(LAYOUTS[2])  # the same random states for dropout
        gpt = gpt_model(config, sequence_parallel=True, **overrides)
        gpt.load_state_dict(gpt_state_dict(build(config, mesh).float().state_dict()))
        results.append(gradients(gpt, inputs, targets)[1])
    return max(difference(results[1][name], g) for name, g in results[0].items())


def test_recomputation_repeats_dropout() -> None:
    assert max(run_ranks(2, recomputed)) < 1e-5


def in_bfloat16() -> tuple[float, set[torch.dtype], set[torch.dtype]]:
    """Difference to fp32 of the logits of a model cast as Megatron does it, and types of its parameters."""
    start(LAYOUTS[0])
    config = CONFIGS[2]
    plain = gpt_model(config)
    cast = gpt_model(config, params_dtype=torch.bfloat16, bf16=True)
    cast.load_state_dict(plain.state_dict())
    cast.bfloat16()
    inputs, _ = data(2, 24)
    mixers = {p.dtype for name, p in cast.named_parameters() if ".mixer." in name}
    others = {p.dtype for name, p in cast.named_parameters() if ".mixer." not in name}
    return difference(cast(inputs, None, None).float(), plain(inputs, None, None)), mixers, others


def test_a_cast_to_bfloat16_spares_the_filters() -> None:
    ((distance, mixers, others),) = run_ranks(1, in_bfloat16)
    assert distance < 0.03
    assert (mixers, others) == ({torch.float32}, {torch.bfloat16})


def refusals() -> list[str]:
    from megatron.core.inference.contexts import StaticInferenceContext
    from megatron.core.packed_seq_params import PackedSeqParams

    start(LAYOUTS[0])
    gpt, (inputs, _) = gpt_model(CONFIGS[0]).eval(), data(2, 24)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: gpt(inputs, None, None, packed_seq_params=PackedSeqParams()),
        lambda: gpt(inputs, None, None, inference_context=StaticInferenceContext(2, 24), runtime_gather_output=True),
        lambda: MixerAsAttention(gpt.config, layer_number=3, model_config=CONFIGS[0], mixer="H"),
    )
    messages = []
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        messages.append(str(caught.value))
    return messages


def test_what_is_not_built_is_refused() -> None:
    ((packed, inference, stage),) = run_ranks(1, refusals)
    assert packed == inference
    assert "packed_seq_params" in packed
    assert "pipeline" in stage
