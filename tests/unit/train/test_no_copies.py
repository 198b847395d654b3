"""A micro-batch copies nothing to the host: a tensor on torch's meta device has no values that could be."""

import pytest
import torch

from hyena_dist.bench.launches import Bodies
from hyena_dist.config.model import ModelConfig
from hyena_dist.data.batches import inputs_and_targets
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers import attention
from hyena_dist.ops.backend import VARIABLE
from hyena_dist.parallel.transfer import to_device
from hyena_dist.train.pretraining import nll_sum


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("pattern", ["HH", "HA"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_micro_batch(backend: str, pattern: str, recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed: there are no kernels")
    monkeypatch.setenv(VARIABLE, backend)
    monkeypatch.setattr(attention, "attention_backend", lambda q: "sdpa-math")  # the choice tries kernels out
    heads = 4 if "A" in pattern else None
    config = ModelConfig(d_model=32, l_max=64, layer_pattern=pattern, num_attention_heads=heads, resid_dropout=0.1)
    meta = torch.device("meta")
    model = HyenaDNA(config, compute_dtype=torch.bfloat16).to(meta)
    model.backbone.activation_checkpointing = recompute
    tokens = torch.randint(7, 11, (2, 65), dtype=torch.uint8)
    with Bodies():
        inputs, targets = inputs_and_targets(to_device(tokens, meta))
        loss = nll_sum(model, inputs, targets, [1, 2], to_device(torch.ones(2, 64), meta))
        loss.backward()
    assert all(p.grad is not None and p.grad.is_meta for p in model.parameters())
    with pytest.raises((RuntimeError, NotImplementedError)):
        loss.item()
