"""The fragments of parameters and moments that a rank holds, whatever the layout and the ZeRO stage.

An engine holds fp32 parameters and, for each, AdamW's two moments; AdamW's step count is the number of updates, which
is the same for all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hyena_dist.parallel.compat.imports import import_deepspeed
from hyena_dist.parallel.engine import private
from hyena_dist.parallel.engine.deepspeed import Engine
from hyena_dist.parallel.tensor_shards import Partition, part_of, partitions

MOMENTS = ("exp_avg", "exp_avg_sq")


class Fragment(NamedTuple):
    """The elements of a tensor that this rank saves; those of all ranks are the tensor, each element once."""

    name: str
    partition: Partition | None
    """How tensor ranks share the tensor; None if they do not."""
    shape: torch.Size
    """The shape of the part that a tensor rank has, which is the whole tensor without a partition."""
    start: int
    """The place of the fragment's first element in the flattened part."""
    values: Tensor
    """The elements, perhaps none, [n]; they are the engine's own memory, which the next step changes."""

    def whole_shape(self, tensor_ranks: int) -> tuple[int, ...]:
        """Return the shape of the whole tensor."""
        return tuple(self.shape) if self.partition is None else self.partition.whole_shape(self.shape, tensor_ranks)


def weights(engine: Engine) -> list[Fragment]:
    """Return this rank's fragment of every parameter and stored buffer; no rank talks to another."""
    parts, parameters = partitions(engine.model), dict(engine.model.named_parameters())
    found = []
    for name, value in engine.model.state_dict().items():
        if name not in parameters:
            held = _share(engine, value.flatten())
        elif parameters[name].requires_grad:
            held = _held(engine, parameters[name])
        else:
            held = _frozen(engine, parameters[name])
        shape = private.whole_shape(parameters[name]) if name in parameters else value.shape
        found.append(_fragment(engine, name, parts.get(name), shape, *held))
    return found


def moments(engine: Engine) -> list[Fragment]:
    """Return this rank's fragments of AdamW's moments of what is trained, which are zeros before the first update.

    They are named exp_avg.PARAMETER and exp_avg_sq.PARAMETER; no rank talks to another.
    """
    parts = partitions(engine.model)
    found = []
    for name, parameter in _trained(engine):
        shape = private.whole_shape(parameter)
        for key in MOMENTS:
            held = _held(engine, parameter, key)
            found.append(_fragment(engine, f"{key}.{name}", parts.get(name), shape, *held))
    return found


def set_moments(engine: Engine, read: Callable[[str], Tensor], step: int) -> None:
    """Put moments into an engine, which then continues after `step` updates.

    Args:
        engine: every rank's engine; all ranks call this together.
        read: returns a whole moment by its name, as in `moments`.
        step: how many updates the moments have seen.
    """
    parts = partitions(engine.model)
    _create_states(engine, step)
    for name, parameter in _trained(engine):
        for key in MOMENTS:
            _set(engine, parameter, part_of(read(f"{key}.{name}"), parts.get(name), engine.mesh), key)


def _trained(engine: Engine) -> list[tuple[str, Any]]:
    """Return name and value of each parameter that has a gradient: AdamW knows no other."""
    return [(name, p) for name, p in engine.model.named_parameters() if p.requires_grad]


def _create_states(engine: Engine, step: int) -> None:
    """Make the states that AdamW makes at its first step, for the parameters or flat shards that it updates."""
    zero = engine.engine.optimizer
    adamw = _adamw(engine)
    updated = private.updated_tensors(zero, engine.stage) if engine.stage else [p for _, p in _trained(engine)]
    for tensor in updated:
        # DeepSpeed's kernel counts in Python, torch's AdamW in a tensor: on the CPU, or where the fused one computes.
        where = tensor.device if adamw.defaults.get("fused") else torch.device("cpu")
        count = torch.tensor(float(step), device=where) if isinstance(adamw, torch.optim.AdamW) else step
        adamw.state[tensor] = {"step": count} | {key: torch.zeros_like(tensor) for key in MOMENTS}
    private.link_states(zero, engine.stage)


def _adamw(engine: Engine) -> Any:
    return private.inner_optimizer(engine.engine.optimizer) if engine.stage else engine.engine.optimizer


def _fragment(
    engine: Engine, name: str, partition: Partition | None, shape: torch.Size, start: int, values: Tensor
) -> Fragment:
    if partition is None and engine.mesh.tensor.rank() > 0:
        values = values[:0]  # tensor rank 0 has the same
    return Fragment(name, partition, shape, start, values.detach())


def _held(engine: Engine, parameter: Any, key: str | None = None) -> tuple[int, Tensor]:
    """Return start and values of what this rank updates of a flattened parameter, or of its moment `key`."""
    if engine.stage == 0:
        return _share(engine, _state(engine, parameter, key).flatten())
    shard = private.shard_of(engine.engine.optimizer, engine.stage, parameter, engine.mesh.data_context.rank())
    if shard is None:
        return 0, parameter.new_empty(0)
    return shard.start, _state(engine, shard.flat, key)[shard.offset : shard.offset + shard.size]


def _frozen(engine: Engine, parameter: Any) -> tuple[int, Tensor]:
    """Return start and values of this rank's share of a flattened parameter that nothing updates."""
    if engine.stage < 3:
        return _share(engine, parameter.flatten())
    shard = private.frozen_shard(parameter, engine.mesh.data_context.rank())
    return shard.start, shard.flat.flatten()[: shard.size]


def _share(engine: Engine, flat: Tensor) -> tuple[int, Tensor]:
    """Return start and values of this rank's share of a flat tensor that all data and context ranks hold whole."""
    ranks = engine.mesh.data_context
    size = -(-flat.numel() // ranks.size())
    return ranks.rank() * size, flat[ranks.rank() * size : (ranks.rank() + 1) * size]


def _state(engine: Engine, updated: Tensor, key: str | None) -> Tensor:
    """Return a tensor that AdamW updates, or its moment `key`, which is zeros before the first update."""
    if key is None:
        return updated
    state: dict[str, Tensor] = _adamw(engine).state.get(updated, {})
    return state[key] if key in state else updated.new_zeros(()).expand_as(updated)


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
