"""What kernels become on GPUs that are not here: registers, stack, shared memory and the seconds that compiling takes.

Triton compiles for any GPU, given a driver that says which. The launches are those of any step on meta tensors.
"""

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

from hyena_dist.ops.triton.launch import Launch, observed

SHARED = {80: 166_912, 90: 232_448, 100: 232_448}
"""Bytes of shared memory that a program may have, by compute capability."""


class Resources(NamedTuple):
    """What a kernel takes of a GPU."""

    kernel: str
    """The kernel's name and constants."""
    registers: int
    """Registers of a thread; 255 are the most, and what does not fit spills to the stack."""
    stack: int
    """Bytes of a thread's stack."""
    shared: int
    """Bytes of a program's shared memory."""
    compile_s: float
    """Seconds that compiling took."""


class _Driver:
    """As much of a Triton driver as compiling needs."""

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
    """What Triton compiles anew for: types of tensors, and of integers whether they are 1 or multiples of 16."""
    kinds = tuple(
        a.dtype if isinstance(a, torch.Tensor) else (type(a), a == 1, a % 16 == 0 if isinstance(a, int) else None)
        for a in launch.arguments
    )
    return launch.kernel, kinds, tuple((name, str(value)) for name, value in sorted(launch.options.items()))


def _compile(launch: Launch) -> Resources:
    start = time.perf_counter()
    code = launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
    seconds = time.perf_counter() - start
    constants = ", ".join(f"{name}={value}" for name, value in launch.options.items())
    registers, stack = _usage(code.asm["cubin"])
    return Resources(f"{launch.name}({constants})", registers, stack, int(code.metadata.shared), seconds)


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


def print_table(rows: Iterable[Resources], file: Any = sys.stdout) -> None:
    """Print a row for each kernel, the widest first."""
    print(f"{'registers':>9} {'stack':>6} {'shared':>8} {'compiling':>9}  kernel", file=file)
    for row in sorted(rows, key=lambda row: -row.registers):
        print(f"{row.registers:>9} {row.stack:>6} {row.shared:>8} {row.compile_s:>7.1f} s  {row.kernel}", file=file)
