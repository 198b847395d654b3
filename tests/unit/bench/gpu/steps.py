"""A step whose cases end in all the ways that there are."""

import os
from collections.abc import Iterator

from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give one case for each way to end."""
    yield {"what": "fine"}, lambda: {"ms": 1.5}
    yield {"what": "wrong"}, wrong
    yield {"what": "missing"}, missing
    yield {"what": "dies"}, lambda: os._exit(3)
    yield {"what": "fine again"}, lambda: {"ms": 2.5}


def wrong() -> dict[str, float]:
    raise ValueError("the kernel is wrong\nin two lines")


def missing() -> dict[str, float]:
    raise LeftOut("triton is not there")
