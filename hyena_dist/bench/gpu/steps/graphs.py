"""Forward and backward replayed as a CUDA graph, beside the same launched kernel by kernel."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from hyena_dist.bench.gpu.measuring import milliseconds
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes
from hyena_dist.bench.gpu.steps.headline import VARIANTS, Variant, step_of


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give ours and the published computation at every length, each both ways."""
    for length in sizes.graph_lengths:
        for what in ("ours", "published"):
            yield {"what": what, "length": length, "how": "eager"}, partial(_eager, VARIANTS[what], length, sizes)
            yield {"what": what, "length": length, "how": "graph"}, partial(_graph, VARIANTS[what], length, sizes)


def _eager(variant: Variant, length: int, sizes: Sizes) -> dict[str, float]:
    return {"ms": milliseconds(step_of(variant, length, sizes, torch.device(sizes.device)), sizes)}


def _graph(variant: Variant, length: int, sizes: Sizes) -> dict[str, float]:
    if sizes.device != "cuda":
        raise LeftOut("graphs are of GPUs alone")
    return {"ms": milliseconds(captured(step_of(variant, length, sizes, torch.device("cuda"))), sizes)}


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return the replay of a step as a graph; the step is done a few times first, on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
