"""The steps of the measurement and their sizes, on a GPU and for a dry run.

Nothing here imports torch: the process that shares out the time shall not fail with the one that measures.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Case = tuple[Mapping[str, Any], Callable[[], Mapping[str, Any]]]
"""What is measured, by name, and the function that returns the figures. The function may raise `LeftOut`."""


class LeftOut(Exception):
    """A case that this machine has not what it takes for; the message says what is missing."""


class Step(NamedTuple):
    """One kind of measurement: a module with a function `cases(sizes) -> Iterator[Case]`.

    A module that also has `on_meta(sizes)`, which gives functions that launch its kernels on meta tensors, has them
    compiled beside the steps before it.
    """

    name: str
    """The last part of the module's name, in `hyena_dist.bench.gpu.steps`."""
    share: float
    """The step's share of the time, in proportion to those of the steps after it."""

    @property
    def module(self) -> str:
        """The full name of the module."""
        return f"hyena_dist.bench.gpu.steps.{self.name}"


STEPS = (
    Step("ceilings", 20),
    Step("checks", 60),
    Step("headline", 130),
    Step("convolution", 90),
    Step("graphs", 35),
    Step("gates", 35),
    Step("attention", 30),
    Step("memory", 40),
    Step("training", 90),
)
"""All steps in their order: what matters most comes first, in case the time ends early."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of everything that is measured; the default is for a GPU."""

    device: str = "cuda"
    target: str = "sm_90"
    """The GPU that kernels are compiled for."""
    dry: bool = False
    """Whether figures do not count: nothing is repeated, and Triton's interpreter runs the kernels."""
    d_model: int = 128
    n_layer: int = 2
    lengths: tuple[int, ...] = (2**10, 2**15, 2**20)
    product: int = 8192
    """The side of the matrices whose product tells the most operations per second."""
    copied: int = 2**31
    """The bytes whose copy tells the most bytes per second."""
    channels: int = 128
    """Channels of the convolution and of the gates alone."""
    convolution_lengths: tuple[int, ...] = (2**10, 2**13, 2**15, 2**17, 2**20)
    convolution_rows: tuple[int, ...] = (128, 8192)
    """Batch x channels; `channels` are the channels."""
    graph_lengths: tuple[int, ...] = (2**10, 2**13, 2**15)
    gate_length: int = 2**20
    attention_lengths: tuple[int, ...] = (2**13, 2**15, 2**17)
    large: tuple[int, int, int] = (8, 256, 2**20)
    """Layers, d_model and length of the model whose memory is measured."""
    check_lengths: tuple[int, ...] = (1, 37, 1000, 8192, 131_072)
    train_length: int = 1024
    train_steps: int = 30


TOY = Sizes(
    device="cpu",
    dry=True,
    d_model=16,
    n_layer=1,
    lengths=(64,),
    product=64,
    copied=2**16,
    channels=2,
    convolution_lengths=(100,),
    convolution_rows=(4,),
    graph_lengths=(64,),
    gate_length=100,
    attention_lengths=(64,),
    large=(2, 16, 128),
    check_lengths=(37,),
    train_length=64,
    train_steps=4,
)
"""The sizes of a dry run: seconds on a CPU."""
