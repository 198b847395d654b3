"""Kernels compiled for GPUs that are not here: registers, stack, shared memory and the seconds that compiling takes.

Triton compiles for any GPU, given a driver that says which. The launches are those of any step on meta tensors.

    python -m hyena_dist.bench.kernels --target sm_90

prints the table for the training steps of a model, and ends with 1 if a kernel takes more than its limits.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from hyena_dist.bench.launches import Bodies, Case
from hyena_dist.errors import UserError
from hyena_dist.ops.triton.launch import Launch, observed
from hyena_dist.system.streams import lost, output_may_fail
from hyena_dist.verbs import parse_lengths

SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448}
"""Target -> bytes of shared memory that a program may have."""

LENGTHS = (1024, 32_768, 1_000_003)
"""Lengths of the steps that are compiled for: loads are wide where a length is a multiple of 16."""


class Resources(NamedTuple):
    """The parts of a GPU that a kernel takes."""

    kernel: str
    """The kernel's name, the types of its tensors and its constants."""
    registers: int
    """Registers of a thread; 255 are the most, and what does not fit spills to the stack."""
    stack: int
    """Bytes of a thread's stack."""
    shared: int
    """Bytes of a program's shared memory."""
    products: bool
    """Whether it multiplies matrices, by which it may take more of a GPU."""
    compile_s: float
    """Seconds that compiling took, few if Triton's cache had it."""

    def excess(self, target: str) -> str:
        """Return in words what the kernel takes beyond the limits of a target; "" if nothing.

        A kernel that is bound by memory needs many programs at a time, so that each may have few registers.
        """
        limits = {
            "registers": (self.registers, 255 if self.products else 128),
            "stack": (self.stack, 256 if self.products else 8),
            "shared": (self.shared, SHARED[target]),
            "seconds": (self.compile_s, 60),
        }
        return ", ".join(f"{name} over {limit:,}" for name, (taken, limit) in limits.items() if taken > limit)


class _Driver:
    """The part of a Triton driver that compiling needs."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def aim_at(target: str) -> None:
    """Let Triton compile for a target such as "sm_90" from now on; once a process, as its caches do not tell."""
    driver.set_active(_Driver(int(target.removeprefix("sm_"))))


def compiled(step: Callable[[], object]) -> list[Resources]:
    """Compile each kernel that a step on meta tensors launches, once for each set of constants and argument types."""
    launches: dict[Any, Launch] = {}

    def note(launch: Launch) -> None:
        launches.setdefault(_specialisation(launch), launch)

    with observed(note):
        step()
    return [_compile(launch) for launch in launches.values()]


def _specialisation(launch: Launch) -> Any:
    """Return what Triton compiles anew for: the kernel, its constants, and of each argument what tells it apart."""

    def kind(a: Any) -> Any:
        if isinstance(a, torch.Tensor):
            return a.dtype
        return (type(a), a == 1, a % 16 == 0, abs(a) < 2**31) if isinstance(a, int) else type(a)

    constants = tuple((name, str(value)) for name, value in sorted(launch.options.items()))
    return launch.kernel, tuple(map(kind, launch.arguments)), constants


def _compile(launch: Launch) -> Resources:
    start = time.perf_counter()
    code = launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    seconds = time.perf_counter() - start
    types = dict.fromkeys(str(a.dtype).removeprefix("torch.") for a in launch.arguments if isinstance(a, torch.Tensor))
    constants = (f"{name}={value}" for name, value in launch.options.items())
    name = f"{launch.name}({', '.join((*types, *constants))})"
    registers, stack = _usage(code.asm["cubin"])
    products = any(word in code.asm["ttgir"] for word in ("tt.dot", "warp_group_dot", "tc_gen5_mma"))
    return Resources(name, registers, stack, int(code.metadata.shared), products, seconds)


def _usage(binary: bytes) -> tuple[int, int]:
    """Return registers and stack of the kernel in a binary."""
    spec = importlib.util.find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    tool = Path(spec.origin).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


def print_table(rows: Iterable[Resources], target: str) -> None:
    """Print a row for each kernel, the widest first, and what it takes beyond the target's limits.

    Of kernels that take the same, the one that was compiled longest stands for all.
    """
    rows = {row._replace(compile_s=0): row for row in sorted(rows, key=lambda row: row.compile_s)}.values()
    print(f"{'registers':>9} {'stack':>6} {'shared':>8} {'compiling':>9}  kernel")
    for row in sorted(rows, key=lambda row: -row.registers):
        excess = row.excess(target)
        print(
            f"{row.registers:>9} {row.stack:>6} {row.shared:>8} {row.compile_s:>7.1f} s  {row.kernel}"
            f"{': ' * bool(excess)}{excess}"
        )


def training_steps(lengths: Iterable[int]) -> None:
    """Run training steps on meta tensors, in bf16 and float32, and one with 8 sequences."""
    cases = [Case(length, dtype) for length in lengths for dtype in (torch.bfloat16, torch.float32)]
    for case in (*cases, Case(1024, batch=8)):
        with Bodies():
            case.on_meta()()


def main() -> int:
    """Compile the kernels of training steps; return 1 if one is beyond its limits, 2 after a mistake, else 0."""
    parser = argparse.ArgumentParser(description="Compile the kernels of training steps for a GPU that is not here.")
    parser.add_argument("--target", choices=SHARED, default="sm_90", help="default: %(default)s")
    parser.add_argument("--lengths", type=parse_lengths, default=LENGTHS, metavar="N,N", help="default: %(default)s")
    try:
        args = parser.parse_args()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    aim_at(args.target)
    found = compiled(lambda: training_steps(args.lengths))
    print_table(found, args.target)
    return int(any(row.excess(args.target) for row in found))


if __name__ == "__main__":
    with output_may_fail() as output:
        code = main() or lost(output)
    sys.exit(code)
