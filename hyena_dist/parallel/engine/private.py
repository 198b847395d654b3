"""All that this project uses of DeepSpeed beyond what it documents; no other file touches it.

Each function says what it relies on, as found in DeepSpeed 0.19.8. tests/distributed/test_private.py checks
every such attribute by name on real engines, so that a DeepSpeed which has changed fails there. What a function calls
`zero` is the optimizer that `deepspeed.initialize` returns for ZeRO stages 1 to 3.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Shard(NamedTuple):
    """The consecutive elements of a flattened parameter that one rank updates."""

    flat: Tensor
    """The tensor that holds the elements and those of other parameters, [n]; the optimizer inside ZeRO updates it."""
    offset: int
    """The place of the first element in `flat`."""
    start: int
    """The place of the first element in the flattened parameter."""
    size: int
    """The number of elements, without padding."""


def forbid_shared_memory_collectives(deepspeed: Any) -> None:
    """Keep DeepSpeed from compiling its shared-memory collectives, and from looking for compilers.

    Relies on `deepspeed.ops.__compatible_ops__`, a dict that DeepSpeed asks before it compiles "deepspeed_shm_comm",
    and fills by running compilers if it is not there yet. A rank's first start takes 92 s of CPU time without this, and
    5 s with it (`python -m hyena_dist.parallel.compat.measure forbid_shared_memory_collectives`).
    """
    deepspeed.ops.__compatible_ops__ = {"deepspeed_shm_comm": False}


def inner_optimizer(zero: Any) -> torch.optim.Optimizer:
    """Return the optimizer that was given to DeepSpeed. Relies on `zero.optimizer`."""
    optimizer: torch.optim.Optimizer = zero.optimizer
    return optimizer


def updated_tensors(zero: Any, stage: int) -> list[Tensor]:
    """Return the fp32 tensors whose states the inner optimizer keeps: [n] each, in the order of its groups.

    Relies on `zero.single_partition_of_fp32_groups` (stages 1 and 2, one for each parameter group) and
    `zero.fp32_partitioned_groups_flat` (stage 3, one or more for each).
    """
    tensors: list[Tensor] = zero.fp32_partitioned_groups_flat if stage == 3 else zero.single_partition_of_fp32_groups
    return tensors


def shard_of(zero: Any, stage: int, parameter: Any, rank: int) -> Shard | None:
    """Return what `rank` of the data-parallel group updates of a parameter; None if that is nothing.

    Relies, with stages 1 and 2, on `parameter._hp_mapping`: its `lp_fragment_address` counts elements of the parameter,
    `get_hp_fragment_address()` those of the flat tensor number `param_group_index`. With stage 3 it relies on
    `zero.grad_position[zero.get_param_id(parameter)]`: number of the flat tensor, place in it, elements with padding,
    as many on every rank.
    """
    tensors = updated_tensors(zero, stage)
    if stage == 3:
        number, offset, padded = zero.grad_position[zero.get_param_id(parameter)]
        start = rank * padded
        return Shard(tensors[number], offset, start, max(0, min(padded, whole_shape(parameter).numel() - start)))
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    inside = mapping.get_hp_fragment_address()
    return Shard(tensors[mapping.param_group_index], inside.start, mapping.lp_fragment_address.start, inside.numel)


def frozen_shard(parameter: Any, rank: int) -> Shard:
    """Return what `rank` keeps of a parameter without gradient, which stage 3 spreads too. Relies on `ds_tensor`."""
    kept: Tensor = parameter.ds_tensor.data
    start = rank * kept.numel()
    return Shard(kept, 0, start, max(0, min(kept.numel(), whole_shape(parameter).numel() - start)))


def whole_shape(parameter: Any) -> torch.Size:
    """Return the shape of a parameter that stage 3 may have put away, leaving it empty. Relies on `ds_shape`."""
    shape: torch.Size = parameter.ds_shape if hasattr(parameter, "ds_shape") else parameter.shape
    return shape


def link_states(zero: Any, stage: int) -> None:
    """Let DeepSpeed's functions for whole states find those that the inner optimizer has now.

    DeepSpeed links a parameter with its shard's states when the first of the parameter groups has been updated for the
    first time, and once only: the states of the other groups do not exist then. Stage 3 looks them up each time.

    Relies on `zero._lazy_init_hp_params_optimizer_state()`, which links all unless `zero._hp_optimizer_states_linked`.
    """
    if stage in (1, 2):
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()


def watch_norm(zero: Any, stage: int, allows: Callable[[float], bool]) -> None:
    """Let ZeRO drop an update as it does after an overflow, before anything has changed, where `allows` says so.

    Relies on `zero.step()` calling `zero.scaled_global_norm()` (stages 1 and 2) or combining what
    `zero._get_norm_groups()` returns with `combine_grad_norm_groups` (stage 3), once, and dropping the update if that
    is infinite.

    Args:
        zero: the optimizer of an engine.
        stage: the stage of ZeRO, 1 to 3.
        allows: called in each step with the gradient's 2-norm before clipping; whether the update may happen.
    """
    from deepspeed.runtime.utils import combine_grad_norm_groups

    of_groups = stage == 3
    method = "_get_norm_groups" if of_groups else "scaled_global_norm"
    original = getattr(zero, method)

    def watched(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        # The last wait for a GPU: DeepSpeed goes on to ask what it gets whether it is finite, several times.
        norms = torch.stack(found).cpu() if of_groups else found.cpu()
        if allows(float(combine_grad_norm_groups(norms.unbind()) if of_groups else norms)):
            return [*norms.unbind()] if of_groups else norms
        return [math.inf] if of_groups else math.inf

    setattr(zero, method, watched)
