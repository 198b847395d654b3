"""DeepSpeed and megatron-core, imported without what they bring along, which is still there for who asks for it.

Figures are seconds of CPU time until a rank has started, medians of 3 on 2 cores of a busy Xeon, as
`python -m hyena_dist.parallel.compat.measure --repeats 3` prints them: 4.9 with all of these changes.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch

from hyena_dist.parallel.compat import quiet
from hyena_dist.parallel.engine.private import forbid_shared_memory_collectives


@contextmanager
def compiling_when_called() -> Iterator[None]:
    """Functions that are decorated with torch.compile here load its compiler when first called, not at once.

    Both libraries decorate functions that few runs call: fused activations, the Muon optimizer. A rank starts in 6.7 s
    without this.
    """
    compile_now = torch.compile

    def compile_when_called(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:
            return lambda f: compile_when_called(f, **options)
        compiled = cache(lambda: compile_now(function, **options))

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return compiled()(*args, **kwargs)

        return call

    torch.compile = compile_when_called  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now


@contextmanager
def without_mlflow() -> Iterator[None]:
    """Let `import mlflow` fail, unless it has been imported already.

    DeepSpeed's autotuner imports it on every rank, and does without where it is not installed. A rank starts in 7.3 s
    without this.
    """
    if "mlflow" in sys.modules:
        yield
        return
    sys.modules["mlflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["mlflow"]


@contextmanager
def importing_megatron() -> Iterator[None]:
    """Imports of megatron.core inside of it are quick and quiet."""
    with warnings.catch_warnings(), compiling_when_called():
        quiet.ignore_missing_kernels()
        yield


def import_deepspeed() -> Any:
    """Import DeepSpeed, quick and quiet, and return its module."""
    if not torch.cuda.is_available():
        quiet.name_the_accelerator()
    quiet.ignore_renamed_collectives()
    with without_mlflow():
        import deepspeed

    quiet.log_errors_only()
    forbid_shared_memory_collectives(deepspeed)
    return deepspeed
