"""Counts what a rank sends: bytes and calls per process group and collective, whoever asks for them.

The counter sees torch.distributed's operators as they are dispatched, so megatron-core's and DeepSpeed's collectives
count like ours. Bytes are those of the usual algorithms over P ranks (ring all-reduce 2 n (P - 1) / P, all-gather and
reduce-scatter (P - 1) / P of the whole, all-to-all what goes to others), whatever the back end really does.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.world import LocalGroup


class Sent(NamedTuple):
    """The traffic of a rank in one kind of collective of one process group."""

    group: str
    """The group's name: tensor, context, data, data_context or world."""
    collective: str
    """The collective's name: all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, reduce or send."""
    calls: int
    """How often it was called."""
    bytes: int
    """Bytes that left this rank by the usual algorithm."""


# c10d operator -> (name of the collective, index of the argument whose bytes count, share of them that one of P ranks
# sends).
_RING = {
    "allreduce_": ("all_reduce", 0, lambda p: 2 * (p - 1) / p),
    "allreduce_coalesced_": ("all_reduce", 0, lambda p: 2 * (p - 1) / p),
    "_allgather_base_": ("all_gather", 0, lambda p: (p - 1) / p),
    "allgather_into_tensor_coalesced_": ("all_gather", 0, lambda p: (p - 1) / p),
    "allgather_": ("all_gather", 0, lambda p: (p - 1) / p),
    "_reduce_scatter_base_": ("reduce_scatter", 1, lambda p: (p - 1) / p),
    "reduce_scatter_tensor_coalesced_": ("reduce_scatter", 1, lambda p: (p - 1) / p),
    "reduce_scatter_": ("reduce_scatter", 1, lambda p: (p - 1) / p),
    "broadcast_": ("broadcast", 0, lambda p: (p - 1) / p),
    "reduce_": ("reduce", 0, lambda p: (p - 1) / p),
    "send": ("send", 0, lambda p: 1),
}
_SILENT = {"recv_", "recv_any_source_", "barrier", "monitored_barrier_"}
"""Operators by which a rank sends no data."""


class TrafficCounter(TorchDispatchMode):
    """Counts what this rank sends within its `with` block.

    Args:
        mesh: the groups that have a name of their own; any other group counts as world.
    """

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        groups = {name: getattr(mesh, name) for name in ("tensor", "context", "data", "data_context")}
        self._names = {g.group_name: name for name, g in groups.items() if not isinstance(g, LocalGroup)}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._bytes: defaultdict[tuple[str, str], float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self._count(func._opname, args)
        return func(*args, **(kwargs or {}))

    def _count(self, operator: str, args: Sequence[Any]) -> None:
        group = next(dist.ProcessGroup.unbox(a) for a in args if isinstance(a, torch.ScriptObject))
        if group.size() == 1 or operator in _SILENT:
            return
        if operator == "alltoall_base_":
            name, sent = "all_to_all", _all_to_all(args[1], args[4], group)
        elif operator in _RING:
            name, which, share = _RING[operator]
            sent = _bytes(args[which]) * share(group.size())
        else:
            raise NotImplementedError(f"traffic of c10d.{operator} is not counted yet; add it to profile/traffic.py")
        key = (self._names.get(group.group_name, "world"), name)
        self._calls[key] += 1
        self._bytes[key] += sent

    def take(self) -> list[Sent]:
        """Return what was sent since the last `take`, in the order of group and collective."""
        account = [Sent(*key, self._calls[key], round(self._bytes[key])) for key in sorted(self._calls)]
        self._calls.clear()
        self._bytes.clear()
        return account


def _all_to_all(tensor: Tensor, splits: Sequence[int], group: Any) -> int:
    rows = tensor.shape[0]
    kept = splits[group.rank()] if splits else rows // group.size()
    return _bytes(tensor) * (rows - kept) // max(1, rows)


def _bytes(tensors: Any) -> int:
    if isinstance(tensors, Tensor):
        return tensors.numel() * tensors.element_size()
    return sum(_bytes(t) for t in tensors)
