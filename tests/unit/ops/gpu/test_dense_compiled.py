"""The kernels of the MLP, the head and dense layers, compiled for GPUs that are not here, and counted."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from hyena_dist.ops import MLPWeights, NormInput
from hyena_dist.ops.fused import head, mlp

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

POINTWISE = ("standardise", "norm_backward", "add_partials")


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def mlp_inputs(s: int, d: int, dtype: torch.dtype) -> mlp.Inputs:
    norm = NormInput(meta(d), meta(d), 1e-5, dtype)
    return mlp.Inputs(meta(s, 1, d), norm, MLPWeights(meta(4 * d, d), meta(4 * d), meta(d, 4 * d), meta(d)), True)


def head_inputs(s: int, d: int, dtype: torch.dtype) -> head.Inputs:
    norm = NormInput(meta(d), meta(d), 1e-5, dtype)
    return head.Inputs(meta(s, 1, d), norm, meta(16, d), meta(s, 1, dtype=torch.int64), 12)


def both_passes(s: int, d: int, dtype: torch.dtype) -> None:
    from hyena_dist.ops.gpu import head as gpu_head
    from hyena_dist.ops.gpu import mlp as gpu_mlp

    for module, inputs in ((gpu_mlp, mlp_inputs(s, d, dtype)), (gpu_head, head_inputs(s, d, dtype))):
        assert module.takes(inputs)
        module.backward(module.forward(inputs, True)[0], inputs, None)


def channels_first(s: int, d: int, dtype: torch.dtype) -> None:
    """Do what the mixer does with dense layers."""
    from hyena_dist.ops.triton.linear import linear, norm_linear

    x, norm = meta(s, 1, d), NormInput(meta(d), meta(d), 1e-5, dtype)
    projections, y = (meta(n, 1, s, dtype=dtype).permute(2, 1, 0) for n in (3 * d, d))
    norm_linear(x, norm, meta(3 * d, d), meta(3 * d), projections)
    linear(y, meta(d, d), meta(d), x, plus=x)
    linear(projections, meta(3 * d, d).t(), None, meta(s, 1, d, dtype=dtype))
    linear(x.to(dtype), meta(d, d).t(), None, y)


def print_resources(target: str) -> None:
    from hyena_dist.bench.kernels import aim_at, compiled

    aim_at(target)
    for d, dtype in ((128, torch.bfloat16), (256, torch.bfloat16), (1024, torch.float32)):
        for step in (both_passes, channels_first):
            for found in compiled(lambda d=d, dtype=dtype, step=step: step(1024, d, dtype)):
                print(json.dumps(found._asdict()))


@pytest.mark.parametrize(("target", "shared"), [("sm_80", 166_912), ("sm_90", 232_448)])
def test_compiles_within_limits(target: str, shared: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = f"from {__name__} import print_resources; print_resources({target!r})"
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    kernels = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(kernels) > 20
    for found in kernels:
        pointwise = found["kernel"].startswith(POINTWISE)
        assert found["stack"] <= (8 if pointwise else 256), found
        assert found["registers"] <= (128 if pointwise else 255), found
        assert found["shared"] <= shared, found
        assert found["compile_s"] <= 60, found


@pytest.mark.parametrize("s", [1024, 2**20])
@pytest.mark.parametrize(("d", "of_mlp", "of_head"), [(128, 1 + 4, 1 + 6), (1024, 3 + 8, 2 + 7)])
def test_launches_do_not_depend_on_length(
    s: int, d: int, of_mlp: int, of_head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hyena_dist.bench.launches import count

    monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")
    for operator, inputs, launches in (
        (mlp.OPERATOR, mlp_inputs(s, d, torch.bfloat16), of_mlp),
        (head.OPERATOR, head_inputs(s, d, torch.bfloat16), of_head),
    ):
        inputs.x.requires_grad_()
        counts = count(lambda operator=operator, inputs=inputs: step(operator, inputs))
        assert counts.launches == launches, counts.by_name


def step(operator: object, inputs: object) -> None:
    y = operator(inputs)
    torch.autograd.grad(y, inputs.x, torch.empty_like(y))
