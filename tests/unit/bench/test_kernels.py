"""Every kernel of a training step compiles for the GPUs that there are, within its limits."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed: no kernel can be compiled")

import triton
import triton.language as tl

from hyena_dist.bench.kernels import Resources, aim_at, compiled
from hyena_dist.ops.triton.launch import launch
from tests.processes import run_ranks

TARGETS = ("sm_80", "sm_90")

SOUND = Resources("name()", registers=128, stack=8, shared=166_912, products=False, compile_s=1.0)


@pytest.fixture(scope="module")
def compilers() -> Iterator["dict[str, subprocess.Popen[str]]"]:
    """A process for each target, both at work at the same time: Triton's caches in memory do not tell targets apart."""
    command = [sys.executable, "-m", "hyena_dist.bench.kernels", "--target"]
    started = {
        target: subprocess.Popen([*command, target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for target in TARGETS
    }
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("target", TARGETS)
def test_all_kernels_are_within_their_limits(compilers: "dict[str, subprocess.Popen[str]]", target: str) -> None:
    said, _ = compilers[target].communicate()
    assert compilers[target].returncode == 0, said
    for dtype in ("bfloat16", "float32"):
        assert f"({dtype}, " in said, said  # there are kernels


def test_a_mistake_is_one_sentence() -> None:
    command = [sys.executable, "-m", "hyena_dist.bench.kernels", "--lengths", "8k"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "error: --lengths 8k is not a list of numbers; try 256,1024,4096\n"


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ({}, ""),
        ({"registers": 129}, "registers over 128"),
        ({"registers": 255, "products": True}, ""),
        ({"stack": 9, "registers": 200}, "registers over 128, stack over 8"),
        ({"stack": 257, "products": True}, "stack over 256"),
        ({"shared": 166_913}, "shared over 166,912"),
        ({"compile_s": 60.1}, "seconds over 60"),
    ],
)
def test_limits(taken: "dict[str, int]", said: str) -> None:
    assert SOUND._replace(**taken).excess("sm_80") == said


def test_a_later_gpu_has_more_shared_memory() -> None:
    assert SOUND._replace(shared=232_448).excess("sm_90") == ""


@triton.jit
def square(x, stride, PRODUCT: tl.constexpr):
    at = x + tl.arange(0, 16)[:, None] * stride + tl.arange(0, 16)[None, :]
    value = tl.load(at)
    tl.store(at, tl.dot(value, value) if PRODUCT else value * value)


def compile_squares() -> list[Resources]:
    def step() -> None:
        for dtype, stride in ((torch.bfloat16, 16), (torch.bfloat16, 32), (torch.bfloat16, 17), (torch.float32, 16)):
            x = torch.empty(16, 32, dtype=dtype, device="meta")
            launch(square, (1,), (x, stride), reads=(x,), writes=(x,), PRODUCT=dtype == torch.bfloat16)

    aim_at("sm_90")
    return compiled(step)


def test_once_for_each_type_and_alignment() -> None:
    """Matrix products are told from other kernels."""
    (found,) = run_ranks(1, compile_squares)
    assert [(row.kernel, row.products) for row in found] == [
        ("square(bfloat16, PRODUCT=True)", True),
        ("square(bfloat16, PRODUCT=True)", True),
        ("square(float32, PRODUCT=False)", False),
    ]
    assert all(row.registers > 0 for row in found)
