"""Time and memory of the paper's largest model at its longest context, forward and backward in bf16."""

from collections.abc import Iterator
from functools import partial

import torch

from hyena_dist.bench.gpu.measuring import milliseconds, peak_gb
from hyena_dist.bench.gpu.plan import Case, Sizes
from hyena_dist.bench.gpu.steps.headline import VARIANTS, Variant, step_of


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give ours and the published computation, keeping activations and with checkpoints of them."""
    n_layer, d_model, length = sizes.large
    for name in ("ours", "ours, checkpointed", "published, checkpointed", "published"):
        case = {"what": name, "layers": n_layer, "d_model": d_model, "length": length}
        yield case, partial(_measure, VARIANTS[name], sizes)


def _measure(variant: Variant, sizes: Sizes) -> dict[str, float]:
    n_layer, d_model, length = sizes.large
    device = torch.device(sizes.device)
    step = step_of(variant, length, sizes, device, (n_layer, d_model))
    return {"peak_gb": peak_gb(step, device), "ms": milliseconds(step, sizes)}
