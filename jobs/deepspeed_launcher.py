"""One node by the `deepspeed` launcher."""

import os
import socket
import subprocess
from collections.abc import Sequence

from hyena_dist.programs import program

CPU_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Lets glibc keep freed activations instead of giving them back to the kernel: page faults of fresh memory cost more
than the arithmetic of pointwise operations."""


def render(arguments: Sequence[str], *, ranks: int) -> list[str]:
    """The command that runs `hyena-dist ARGUMENTS` on `ranks` processes of this machine."""
    launcher = [program("deepspeed"), "-q", "--num_accelerators", str(ranks), "--master_port", str(_free_port())]
    return [*launcher, "--module", "hyena_dist", *arguments]


def submit(command: Sequence[str]) -> int:
    """Run a rendered command to its end; returns its exit code. Ctrl-C reaches the ranks too and is waited for."""
    env = {"OMP_NUM_THREADS": "1", **CPU_ALLOCATOR, **os.environ}
    if not any(os.path.exists(device) for device in ("/dev/nvidiactl", "/dev/kfd")):
        env.setdefault("DS_ACCELERATOR", "cpu")  # else each process warns that it looked for a GPU in vain
    with subprocess.Popen(command, env=env) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
