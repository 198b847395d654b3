"""The interface of the mixers' modules, and the way from a letter to its module."""

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor, nn

from hyena_dist.config.mixers.table import mixer
from hyena_dist.config.model import ModelConfig
from hyena_dist.parallel.linear import Norm
from hyena_dist.parallel.mesh import Mesh


class MixerModule(nn.Module):
    """A causal mixer of positions, between a column-parallel and a row-parallel linear layer of its own.

    Shapes: B batch, D d_model, R positions of this rank's residual stream.
    """

    @property
    def adds_residual(self) -> bool:
        """Whether `forward` can return the sum with the residual stream."""
        return False

    def __init__(self, config: ModelConfig, mesh: Mesh) -> None:
        super().__init__()

    def forward(self, x: Tensor, norm: Norm | None = None, residual: bool = False) -> Tensor:
        """Return the mixer of norm(x): [R, B, D] -> [R, B, D] in the compute type; without a norm, x is taken as it is.

        Args:
            x: the residual stream.
            norm: the layer's norm.
            residual: whether to return the sum with x, in the type of x; only where `adds_residual`.
        """
        raise NotImplementedError

    def rehearse(self, length: int, batch: int, dtype: torch.dtype) -> None:
        """Do on random numbers, in one process, what chooses between kernels by timing; nothing if nothing does.

        Args:
            length: the length of the whole sequences, of which context ranks hold parts.
            batch: the number of sequences of a micro-batch.
            dtype: the type of activations.
        """

    @classmethod
    def describe(cls, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return in a few words how the mixer will run on a device, for people; None if there is no choice."""
        return None


def spared_from_16_bits(cast: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what `nn.Module._apply` does to a tensor, but for casts to 16-bit types, of which the device alone stays.

    A grid of 2**20 positions has 1,793 distinct values in bf16, so that a filter would turn into stairs.
    """

    def spared(tensor: Tensor) -> Tensor:
        new = cast(tensor)
        return tensor.to(new.device) if new.dtype in (torch.bfloat16, torch.float16) else new

    return spared


class StepConstant(nn.Module):
    """A part of a mixer that depends on parameters alone, so that the micro-batches of a step can share one evaluation.

    HyenaDNA.share_filters finds those of every mixer.
    """

    @property
    def owes_gradient(self) -> bool:
        """Whether gradients of micro-batches were collected that no last one has taken to the parameters."""
        raise NotImplementedError

    def share(self, micro_batches: int) -> None:
        """Let so many forward passes with gradient from now on share one evaluation; 1 ends the sharing."""
        raise NotImplementedError


def mixer_class(letter: str) -> type[MixerModule]:
    """Return the class that the record of a letter names.

    Raises:
        UserError: no mixer has the letter.
    """
    path, _, name = mixer(letter).module.partition(":")
    found: type[MixerModule] = getattr(import_module(path), name)
    return found


def describe_mixers(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> list[str]:
    """Return what the mixers of a model say of how they will run, once for each kind."""
    described = (mixer_class(letter).describe(config, device, dtype) for letter in dict.fromkeys(config.mixers))
    return [line for line in described if line]
