"""The errors of layers and kernels against float64: the checks of `bench operator --self-check`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from hyena_dist.bench import self_check
from hyena_dist.bench.gpu.plan import Case, Sizes


class WrongError(Exception):
    """An error is larger than allowed."""


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give each group of checks as one case."""
    for what, group in self_check.groups(torch.device(sizes.device), sizes.check_lengths):
        yield {"what": what}, partial(_worst, group)


def _worst(group: Callable[[], Iterator[self_check.Check]]) -> dict[str, Any]:
    """Return the check of a group that comes nearest to what is allowed, or exceeds it most."""
    worst = max(group(), key=lambda check: check.error / check.allowed if check.error == check.error else torch.inf)
    if not worst.good:
        raise WrongError(f"{worst.what}: {worst.error:.2e} of {worst.allowed:.0e}")
    return {"worst": worst.what, "error": worst.error, "allowed": worst.allowed}
