"""The whole model and AdamW's moments, out of an engine and into one, whatever the layout of ranks and ZeRO stage.

What an engine of ours holds besides its layout is fp32 parameters and, for each, AdamW's two moments; AdamW's step
count is that of the run, because every step updates. All ranks call these functions together.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.parallel.partition import part_of, partitions, whole_of
from hyena_dist.parallel.zero import Engine, import_deepspeed

MOMENTS = ("exp_avg", "exp_avg_sq")


def whole_weights(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """Name and whole fp32 value of every parameter and stored buffer, one after the other on all ranks.

    The tensors are the engine's own where nothing had to be put together: copy what is to be kept.
    """
    parts, parameters = partitions(engine.model), dict(engine.model.named_parameters())
    for name, value in engine.model.state_dict().items():
        if name in parameters:
            value = _of_all_data_ranks(engine, parameters[name])
        yield name, whole_of(value, parts.get(name), engine.mesh)


def whole_moments(engine: Engine) -> Iterator[tuple[str, Tensor]]:
    """'exp_avg.<parameter>' and 'exp_avg_sq.<parameter>' with their whole fp32 values, as `whole_weights`."""
    parts = partitions(engine.model)
    _link_states(engine)
    for name, parameter in engine.model.named_parameters():
        for key in MOMENTS:
            value = _of_all_data_ranks(engine, parameter, key)
            yield f"{key}.{name}", whole_of(value, parts.get(name), engine.mesh)


def set_moments(engine: Engine, read: Callable[[str], Tensor], step: int) -> None:
    """Continue after `step` updates with the whole moments that `read` gives for the names of `whole_moments`."""
    parts = partitions(engine.model)
    _create_states(engine, step)
    for name, parameter in engine.model.named_parameters():
        for key in MOMENTS:
            _set(engine, parameter, part_of(read(f"{key}.{name}"), parts.get(name), engine.mesh), key)


def _create_states(engine: Engine, step: int) -> None:
    """What AdamW makes at its first step, on the tensors that it updates: parameters, or flat shards of them."""
    zero, adamw = engine.engine.optimizer, _adamw(engine)
    if engine.stage == 0:
        updated = list(engine.model.parameters())
    else:
        updated = zero.fp32_partitioned_groups_flat if engine.stage == 3 else zero.single_partition_of_fp32_groups
    for tensor in updated:
        # DeepSpeed's kernel counts in Python, torch's AdamW in a tensor on the CPU.
        count = torch.tensor(float(step)) if isinstance(adamw, torch.optim.AdamW) else step
        adamw.state[tensor] = {"step": count} | {key: torch.zeros_like(tensor) for key in MOMENTS}
    _link_states(engine)


def _link_states(engine: Engine) -> None:
    """Let ZeRO 1 and 2 find a parameter's states in those of its shard.

    DeepSpeed does so when the first of the parameter groups has been updated for the first time, and once only: the
    states of the other groups do not exist then.
    """
    if engine.stage in (1, 2):
        engine.engine.optimizer._hp_optimizer_states_linked = False
        engine.engine.optimizer._lazy_init_hp_params_optimizer_state()


def _adamw(engine: Engine) -> Any:
    return engine.engine.optimizer if engine.stage == 0 else engine.engine.optimizer.optimizer


def _of_all_data_ranks(engine: Engine, parameter: nn.Parameter, key: str | None = None) -> Tensor:
    """A parameter, or one of its moments, that ZeRO has spread over the data and context ranks."""
    utils = import_deepspeed().utils
    if key is None:
        return utils.safe_get_full_fp32_param(parameter) if engine.stage == 3 else parameter.detach()
    if engine.stage == 0:
        return _adamw(engine).state[parameter][key]
    return utils.safe_get_full_optimizer_state(parameter, key)


def _set(engine: Engine, parameter: Any, value: Tensor, key: str) -> None:
    utils, ranks = import_deepspeed().utils, engine.mesh.data_context
    if engine.stage == 0:
        _adamw(engine).state[parameter][key].copy_(value)
    elif engine.stage < 3:
        utils.safe_set_full_optimizer_state(parameter, value, key)
    else:
        # The setter of whole values runs over the end of a parameter that does not divide by the number of ranks.
        size = -(-value.numel() // ranks.size())
        shard = value.flatten()[ranks.rank() * size : (ranks.rank() + 1) * size]
        utils.safe_set_local_optimizer_state(parameter, F.pad(shard, (0, size - shard.numel())), key)
