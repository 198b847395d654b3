"""The record of a mixer: its letter, its module and what it costs.

A mixer is the part of a layer between a column-parallel linear layer, which takes the norm's output in, and a
row-parallel one, which gives the layer's result. Those two send what the two of the MLP send, which plan/traffic.py
counts for every layer; a record counts the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hyena_dist.config.architecture import Architecture
from hyena_dist.config.costs import Flops, Parameter, Shape, Traffic


@dataclass(frozen=True)
class FilterCosts:
    """The costs, in one layer, of filters: of what a mixer computes from parameters alone, before it sees a sequence.

    Micro-batches of a step can share it (HyenaDNA.share_filters), so its costs are those of one evaluation.
    """

    parameters: Callable[[Architecture], list[Parameter]]
    """The parameters that filters are computed from. Tensor ranks add up the gradients of what they hold whole."""
    bytes: Callable[[Shape], float]
    """Bytes of the filters on one rank."""
    traffic: Callable[[Shape], list[Traffic]]
    """What a rank sends for one evaluation in the forward pass; the backward pass sends the same."""
    flops: Callable[[Shape], Flops]
    """Operations of one evaluation, over the tensor and context ranks together."""


def _no_units(model: Architecture) -> dict[str, int]:
    return {}


def _no_problem(model: Architecture) -> str | None:
    return None


@dataclass(frozen=True)
class Mixer:
    """Everything that configuration, plans and models know of a mixer; costs are those of one layer."""

    letter: str
    """The mixer's name in ModelConfig.layer_pattern, one upper-case letter."""
    name: str
    """The mixer's name for people."""
    module: str
    """The mixer's class, a models.mixers.base.MixerModule, as "package.module:Class"."""
    parameters: Callable[[Architecture], list[Parameter]]
    """The mixer's parameters but those of `filters`, by their names in the module. Those that tensor ranks hold whole
    see a rank's positions of the residual stream alone, as the bias of a row-parallel layer does."""
    kept_bytes: Callable[[Shape], float]
    """Bytes that one rank keeps from forward to backward, the normed input included, filters not."""
    traffic: Callable[[Shape], list[Traffic]]
    """What a rank sends in a forward pass, without its two linear layers and filters; backward sends the same."""
    flops: Callable[[Shape], Flops]
    """Operations over the tensor and context ranks together, without filters."""
    filters: FilterCosts | None = None
    """The costs of what the mixer computes from parameters alone; None if there is no such thing."""
    units: Callable[[Architecture], dict[str, int]] = _no_units
    """Sizes by name that tensor ranks must divide; of a tensor rank's part each context rank needs at least one."""
    problem: Callable[[Architecture], str | None] = _no_problem
    """Why an architecture does not suit the mixer, as a sentence with the fix; None if it does."""

    def all_parameters(self, model: Architecture) -> list[Parameter]:
        """Return the parameters of the module, filters included."""
        return self.parameters(model) + (self.filters.parameters(model) if self.filters else [])
