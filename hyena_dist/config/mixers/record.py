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
    """What a mixer computes from its parameters alone, before it has seen a sequence; for one layer.

    Micro-batches of a step can share it (HyenaDNA.share_filters), so it is counted by evaluations.
    """

    parameters: Callable[[Architecture], list[Parameter]]
    """The parameters that it is computed from. Tensor ranks add up the gradients of those that they hold whole."""
    bytes: Callable[[Shape], float]
    """Bytes of the result on one rank."""
    traffic: Callable[[Shape], list[Traffic]]
    """What one evaluation sends in the forward pass; the backward pass sends the same."""
    flops: Callable[[Shape], Flops]
    """Operations of one evaluation, over the tensor and context ranks together."""


def _no_units(model: Architecture) -> dict[str, int]:
    return {}


def _no_problem(model: Architecture) -> str | None:
    return None


@dataclass(frozen=True)
class Mixer:
    """Everything that configuration, plans and models know of a mixer; for one layer."""

    letter: str
    """Its name in ModelConfig.layer_pattern, one upper-case letter."""
    name: str
    """Its name for people."""
    module: str
    """Where its class, a models.mixers.base.MixerModule, is imported from: "package.module:Class"."""
    parameters: Callable[[Architecture], list[Parameter]]
    """All its parameters but those of `filters`, by their names in the module. Those that tensor ranks hold whole see a
    rank's positions of the residual stream alone, as the bias of a row-parallel layer does."""
    kept_bytes: Callable[[Shape], float]
    """Bytes that one rank keeps from forward to backward, the normed input included, filters not."""
    traffic: Callable[[Shape], list[Traffic]]
    """What a rank sends in a forward pass, without its two linear layers and filters; backward sends the same."""
    flops: Callable[[Shape], Flops]
    """Operations over the tensor and context ranks together, without filters."""
    filters: FilterCosts | None = None
    """The costs of what it computes from parameters alone, if there is any."""
    units: Callable[[Architecture], dict[str, int]] = _no_units
    """By name, sizes that tensor ranks must divide, and of a part of which each context rank needs at least one."""
    problem: Callable[[Architecture], str | None] = _no_problem
    """Why an architecture does not suit it, as a sentence with the fix; None if it does."""

    def all_parameters(self, model: Architecture) -> list[Parameter]:
        """The parameters of the module, filters included."""
        return self.parameters(model) + (self.filters.parameters(model) if self.filters else [])
