"""Forward and backward of the paper's small model in bf16, batch 1: ours, the published computation, attention."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from hyena_dist.bench import model as models
from hyena_dist.bench.gpu.measuring import launches, milliseconds, peak_gb
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes
from hyena_dist.bench.launches import Bodies
from hyena_dist.models.mixers.attention import usable_backends
from hyena_dist.ops.backend import VARIABLE


class Variant(NamedTuple):
    """A model, and what is done with it."""

    what: str
    backend: str = "auto"
    """The operators' implementation, a value of the environment variable HYENA_DIST_BACKEND."""
    checkpointing: bool = False
    """Whether each layer keeps its input alone, as the published configurations have it."""
    adamw: bool = False
    """Whether the parameters are updated too."""


VARIANTS = {
    "ours": Variant("ours"),
    "published": Variant("published"),
    "attention": Variant("attention"),
    "ours, checkpointed": Variant("ours", checkpointing=True),
    "published, checkpointed": Variant("published", checkpointing=True),
    "ours, with AdamW": Variant("ours", adamw=True),
    "published, with AdamW": Variant("published", adamw=True),
    "ours, by torch": Variant("ours", backend="torch"),
    "ours, by Triton": Variant("ours", backend="triton"),
}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give every variant at every length."""
    for length in sizes.lengths:
        for name, variant in VARIANTS.items():
            yield {"what": name, "length": length}, partial(_measure, variant, length, sizes)


def on_meta(sizes: Sizes) -> Iterator[Callable[[], object]]:
    """Give the steps whose kernels shall be compiled: those of all lengths, by Triton."""
    for length in sizes.lengths:
        yield partial(_on_meta, length, sizes)


def _on_meta(length: int, sizes: Sizes) -> None:
    with backend("triton"), Bodies():
        step_of(Variant("ours", "triton"), length, sizes, torch.device("meta"))()


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Let operators take this implementation within the block."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def step_of(
    variant: Variant,
    length: int,
    sizes: Sizes,
    device: torch.device,
    shape: tuple[int, int] | None = None,
) -> Callable[[], None]:
    """Return a function that does a step of a variant: forward, backward and maybe AdamW, on one random sequence.

    Args:
        variant: what is measured; `backend` has to be in force when the step is done.
        length: positions of the sequence.
        sizes: with layers and d_model of the model.
        device: where it is.
        shape: layers and d_model, instead of those of `sizes`.
    """
    n_layer, d_model = shape or (sizes.n_layer, sizes.d_model)
    model = models.build(variant.what, length, d_model=d_model, n_layer=n_layer, dtype="bf16", device=device).train()
    model.backbone.activation_checkpointing = variant.checkpointing
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused) if variant.adamw else None
    inputs, targets = models.random_batch(1, length, device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        models.loss(variant.what, model, inputs, targets).backward()
        if optimizer is not None:
            optimizer.step()

    return step


def _measure(variant: Variant, length: int, sizes: Sizes) -> dict[str, Any]:
    device = torch.device(sizes.device)
    if variant.backend == "triton":
        _require_triton()
    with backend(variant.backend):
        step = step_of(variant, length, sizes, device)
        figures: dict[str, Any] = {"peak_gb": peak_gb(step, device), "ms": milliseconds(step, sizes)}
        if variant.what == "attention":
            figures["by"] = usable_backends(device, torch.bfloat16, min(64, sizes.d_model))[0]
        else:
            figures["launches"] = launches(step, device)
    return figures


def _require_triton() -> None:
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise LeftOut(str(error)) from error
