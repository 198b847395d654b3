"""The memory of a step's tensors, as a GPU's allocator would count it: without libraries and without malloc's gaps."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_of_tensors(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the most bytes of CPU tensors that function(*arguments) had at any moment, beyond those from before.

    The resident memory of the same step differs by tens of percent from one process to the next: glibc leaves gaps
    between tensors of very different sizes, more with every micro-batch.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function(*arguments)
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in changes), default=0)
