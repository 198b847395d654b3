"""Layers that are what they look like, so that an operator may take their parameters and do their work itself."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hyena_dist.parallel.linear import ColumnLinear, Norm, RowLinear


def is_plain(*layers: nn.Module) -> bool:
    """Return whether an operator may apply the parameters of these layers itself, without a call of the layers.

    Not where somebody's hook waits for the call, or where another layer, as an adapter of peft's, has taken the place.
    """
    return all(type(layer) in (ColumnLinear, RowLinear, nn.Linear, Norm) and not is_hooked(layer) for layer in layers)


def is_hooked(module: nn.Module) -> bool:
    """Return whether a hook waits for calls of a module, or something has replaced its `forward`."""
    forward = any(map(_waits, (module._forward_pre_hooks, module._forward_hooks)))
    backward = any(map(_waits, (module._backward_pre_hooks, module._backward_hooks)))
    return forward or backward or "forward" in module.__dict__


def _waits(hooks: dict[int, Callable[..., Any]]) -> bool:
    # ZeRO-3 has hooks on all modules, which gather parameters; it does so wherever they are used as well.
    return any(not getattr(hook, "__module__", "").startswith("deepspeed.") for hook in hooks.values())
