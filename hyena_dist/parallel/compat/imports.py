"""DeepSpeed and megatron-core, imported without what they bring along: half of the seconds in which a rank starts.

Measured on 2 CPU cores: 4.8 s become 2.3 s. What is left out here is still there for who asks for it.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch

from hyena_dist.parallel.engine.private import forbid_shared_memory_collectives


@contextmanager
def compiling_when_called() -> Iterator[None]:
    """Functions that are decorated with torch.compile here load its compiler when first called, not at once.

    Both libraries decorate functions that few runs call: fused activations, the Muon optimizer.
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
def importing_megatron() -> Iterator[None]:
    """Around imports of megatron.core: quick and quiet."""
    with warnings.catch_warnings(), compiling_when_called():
        warnings.simplefilter("ignore")  # "Transformer Engine and Apex are not installed": they are not used
        yield


def import_deepspeed() -> Any:
    """DeepSpeed, quiet, and without compiling its shared-memory collectives (a minute of C++ for no gain on gloo)."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # DeepSpeed calls collectives by names that newer torch versions are about to drop.
    warnings.filterwarnings("ignore", message=".*is deprecated. Please use", category=FutureWarning)
    with _without("mlflow"):  # its autotuner would import it on every rank, and does without
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    forbid_shared_memory_collectives(deepspeed)
    return deepspeed


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let `import module` fail, unless it has been imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
