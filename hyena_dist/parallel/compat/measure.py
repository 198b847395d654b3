"""The worth of each process-wide change: a rank's start with all of them, and with one of them left out.

    python -m hyena_dist.parallel.compat.measure --repeats 5

Advice to the allocator is measured by `hyena-dist bench step`, with and without --plain-malloc.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

_COMPAT = "hyena_dist.parallel.compat"
CHANGES = {
    "compiling_when_called": f"{_COMPAT}.imports",
    "without_mlflow": f"{_COMPAT}.imports",
    "forbid_shared_memory_collectives": f"{_COMPAT}.imports",
    "name_the_accelerator": f"{_COMPAT}.quiet",
    "ignore_renamed_collectives": f"{_COMPAT}.quiet",
    "log_errors_only": f"{_COMPAT}.quiet",
    "ignore_missing_kernels": f"{_COMPAT}.quiet",
    "ignore_stream_order": f"{_COMPAT}.quiet",
    "answer_device": f"{_COMPAT}.cpu",
    "answer_synchronize": f"{_COMPAT}.cpu",
    "answer_random_states": f"{_COMPAT}.cpu",
}
"""Name of each change -> the module that makes it."""

_SLOW = ("forbid_shared_memory_collectives",)
"""Changes without which a start takes a minute, so that they are left out once only."""


class Start(NamedTuple):
    """The cost and the outcome of a rank's start."""

    cpu_s: float
    """Seconds of all cores, from the first line of Python to the last step."""
    wall_s: float
    lines: int
    """The number of lines that libraries printed."""
    error: str
    """What was raised; empty if all went well."""


def measure(left_out: str | None = None) -> Start:
    """Start a rank in a process of its own, without one of the changes if it is named."""
    with tempfile.TemporaryDirectory() as folder:
        env = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
        env |= {"TORCH_EXTENSIONS_DIR": f"{folder}/extensions", "OMP_NUM_THREADS": "1"}
        code = f"from {__name__ if __name__ != '__main__' else f'{_COMPAT}.measure'} import start; "
        command = [sys.executable, "-c", f"{code}start({left_out!r}, {folder!r})"]
        with open(f"{folder}/output", "w+") as output:
            subprocess.run(command, env=env, stdout=output, stderr=subprocess.STDOUT)
            output.seek(0)
            lines = len(output.readlines())
        result: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    return Start(**result, lines=lines)


def start(left_out: str | None, folder: str) -> None:
    """Do what ranks do as they start, and write what it took to FOLDER/result.json."""
    if left_out is not None:
        setattr(import_module(CHANGES[left_out]), left_out, _Nothing())
    error = ""
    try:
        _train(folder)
        _use_megatron(folder)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}".splitlines()[0]
    spent = os.times()
    seconds = spent.user + spent.system + spent.children_user + spent.children_system
    result = {"cpu_s": seconds, "wall_s": _since_start(), "error": error}
    (Path(folder) / "result.json").write_text(json.dumps(result))
    for child in multiprocessing.active_children():  # megatron-core's checkpoints leave one
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what is said while a process ends is not counted


class _Nothing:
    """Takes the place of a change, function or context manager, and does nothing."""

    def __call__(self, *_: object) -> "_Nothing":
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _train(folder: str) -> None:
    """Two steps of a tiny model, of which the second is dropped, at ZeRO stages 1 and 3."""
    import torch
    from torch import nn

    from hyena_dist.config.deepspeed import read_preset
    from hyena_dist.config.parallel import ParallelConfig
    from hyena_dist.parallel.engine.deepspeed import Engine, adamw
    from hyena_dist.parallel.mesh import initialize

    mesh = initialize(ParallelConfig())
    for name in ("zero1", "zero3"):
        model, preset = nn.Linear(4, 4), read_preset(name)
        optimizer = adamw([{"params": list(model.parameters())}], preset, lr=0.1)
        engine = Engine(model, optimizer, mesh, preset, micro_batch_size=1, clip_grad=1.0)
        for limit in (float("inf"), 0.0):
            engine.engine.backward(engine.engine(torch.ones(1, 4)).sum())
            engine.step(0.1, limit)


def _use_megatron(folder: str) -> None:
    """A linear layer, dropout's random states and a distributed checkpoint of megatron-core."""
    import torch

    from hyena_dist.parallel import linear  # noqa: F401  it asks for quiet
    from hyena_dist.parallel.compat.imports import importing_megatron

    with importing_megatron():
        from megatron.core import dist_checkpointing, parallel_state, tensor_parallel
        from megatron.core.tensor_parallel import layers

    tensor_parallel.model_parallel_cuda_manual_seed(1)
    with tensor_parallel.get_cuda_rng_tracker().fork():
        torch.rand(1)
    x = torch.ones(1, 1, 4, requires_grad=True)
    y = layers.linear_with_grad_accumulation_and_async_allreduce(
        x,
        torch.ones(4, 4, requires_grad=True),
        bias=None,
        gradient_accumulation_fusion=False,
        allreduce_dgrad=True,
        sequence_parallel=False,
        tp_group=parallel_state.get_tensor_model_parallel_group(),
    )
    y.sum().backward()
    saved = dist_checkpointing.ShardedTensor.from_rank_offsets("x", torch.ones(4))
    (Path(folder) / "checkpoint").mkdir()
    dist_checkpointing.save({"x": saved}, f"{folder}/checkpoint")


def _since_start() -> float:
    import time

    import psutil

    return time.time() - psutil.Process().create_time()


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line for each change."""
    parser = argparse.ArgumentParser(prog=f"python -m {_COMPAT}.measure", description=__doc__.splitlines()[0])
    parser.add_argument("changes", nargs="*", choices=[[], *CHANGES], metavar="CHANGE", help="default: all")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: %(default)s")
    args = parser.parse_args(argv)
    print(f"{'left out':<34} {'CPU':>8} {'wall':>8} {'lines':>6}   medians of {args.repeats}")
    for name in (None, *(args.changes or CHANGES)):
        starts = [measure(name) for _ in range(1 if name in _SLOW else args.repeats)]
        cpu = statistics.median(each.cpu_s for each in starts)
        wall = statistics.median(each.wall_s for each in starts)
        lines = statistics.median(each.lines for each in starts)
        print(f"{name or 'nothing':<34} {cpu:>7.2f}s {wall:>7.2f}s {lines:>6.0f}   {starts[0].error[:120]}", flush=True)


if __name__ == "__main__":
    main()
