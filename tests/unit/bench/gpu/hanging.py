"""A step that never ends."""

import time
from collections.abc import Iterator
from typing import Any

from hyena_dist.bench.gpu.plan import Case, Sizes


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give a case that hangs."""
    yield {"what": "hangs"}, hang


def hang() -> dict[str, Any]:
    time.sleep(600)
    return {}
