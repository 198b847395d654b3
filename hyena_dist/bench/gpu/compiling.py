"""Compiling what later steps launch, beside the earlier ones: kernels wait in Triton's cache for who launches them.

Every process runs all steps that name kernels on meta tensors and compiles its share of what they launch, for the GPU
that there is, but without using it.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyena_dist.bench.gpu.plan import STEPS, LeftOut, Sizes
from hyena_dist.bench.gpu.worker import failure
from hyena_dist.system.processes import usable_cores

_SPARED = 2
"""Cores that are left to what is measured."""
_DRY_S = 120.0
"""Seconds that a dry run waits for its few kernels."""
_COMPILED_S = 0.05
"""Seconds from which a kernel has been compiled; faster, it was there."""


class Compiling:
    """The processes that compile, and the folder that is Triton's cache for all processes of this program."""

    def __init__(self, sizes: Sizes) -> None:
        self._dry = sizes.dry
        self._folder = tempfile.TemporaryDirectory()
        os.environ["TRITON_CACHE_DIR"] = self._folder.name
        count = 1 if sizes.dry else max(1, usable_cores() - _SPARED)
        context = multiprocessing.get_context("spawn")
        self._files = [Path(self._folder.name, f"compiled-{index}.jsonl") for index in range(count)]
        self._processes = [
            context.Process(target=_compile_share, args=(sizes, index, count, file), daemon=True)
            for index, file in enumerate(self._files)
        ]
        for process in self._processes:
            process.start()

    def end(self) -> list[dict[str, Any]]:
        """End the processes, in a dry run once they are done, and return what they compiled.

        A second call returns nothing.
        """
        for process in self._processes:
            if self._dry:
                process.join(timeout=_DRY_S)
            process.kill()
            process.join()
        lines = [line for file in self._files if file.exists() for line in file.read_text().splitlines()]
        self._files = []
        self._folder.cleanup()
        rows = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):  # the last line of a process that was ended
                rows.append(json.loads(line))
        return rows


def _compile_share(sizes: Sizes, index: int, count: int, file: Path) -> None:
    if not sizes.dry:
        os.nice(10)
    with open(file, "w", encoding="utf-8", buffering=1) as lines:
        try:
            for row in _compiled(sizes, index, count):
                lines.write(json.dumps(row) + "\n")
        except Exception as error:
            lines.write(json.dumps({"what": "compiling", **failure(error)}) + "\n")


def _compiled(sizes: Sizes, index: int, count: int) -> Iterator[dict[str, Any]]:
    """Compile the kernels whose names and constants fall to this process; a step that fails is a row of the first."""
    try:
        kernels = importlib.import_module("hyena_dist.bench.kernels")
        launching = importlib.import_module("hyena_dist.ops.triton.launch")
    except ImportError as error:
        if index == 0:
            yield {"what": "compiling", "outcome": f"left out: {error}"}
        return
    kernels.aim_at(sizes.target)
    found: list[dict[str, Any]] = []

    def compile_mine(launch: Any) -> None:
        name = f"{launch.name}({', '.join(f'{key}={value}' for key, value in launch.options.items())})"
        if zlib.crc32(name.encode()) % count == index:
            start = time.perf_counter()
            launch.kernel.warmup(*launch.arguments, grid=launch.grid, **launch.options)
            seconds = time.perf_counter() - start
            if seconds > _COMPILED_S:
                found.append({"what": name, "compile_s": seconds, "outcome": ""})

    for step in STEPS:
        module = importlib.import_module(step.module)
        failures: set[str] = set()
        for on_meta in module.on_meta(sizes) if hasattr(module, "on_meta") else ():
            try:
                with launching.observed(compile_mine):
                    on_meta()
            except LeftOut:
                continue  # the case itself says so
            except Exception as error:
                if str(error) not in failures:  # once is enough
                    found.append({"what": f"kernels of {step.name}", **failure(error)})
                failures.add(str(error))
            yield from found
            found.clear()
