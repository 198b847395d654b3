"""Operators without a second derivative say so."""

from typing import Any

from torch import Tensor


def differentiable_once(backward_op: Any, what: str) -> None:
    """Register for a custom operator, which computes the gradients of `what`, that it has no gradient itself."""

    def refuse(ctx: Any, *gradients: Tensor) -> None:
        raise NotImplementedError(
            f"{what} is differentiable once: a second derivative through it is not implemented; "
            "take its gradient without create_graph=True"
        )

    backward_op.register_autograd(refuse)
