"""How many kernels a training step launches on a GPU, and how many bytes they move, counted on meta tensors.

Every operator of torch that is not a view counts as one launch, which moves each of its operands and results once; an
FFT of torch's is one too, though on a GPU it takes several. Operators of ours are counted by what they do inside.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyena_dist.ops.conv import gated
from hyena_dist.ops.fused import head, mixer, mlp

_NOTHING = (
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "detach",
    "_unsafe_view",
    "lift_fresh",
)
"""Operators that launch nothing, besides views."""


class Counts(NamedTuple):
    """What a step does on a GPU."""

    launches: int
    moved: int
    """Bytes that are read or written, each operand once a launch."""
    by_name: dict[str, tuple[int, int]]
    """Launches and bytes of each operator or kernel."""


def count(step: Callable[[], object]) -> Counts:
    """Count what a step on meta tensors launches."""
    from hyena_dist.ops.triton.launch import Launch, observed

    launches: Counter[str] = Counter()
    moved: Counter[str] = Counter()

    def note(name: str, size: int) -> None:
        launches[name] += 1
        moved[name] += size

    def of_kernel(launch: Launch) -> None:
        note(launch.name, launch.moved)

    with observed(of_kernel), Bodies(note):
        step()
    by_name = {name: (n, moved[name]) for name, n in launches.most_common()}
    return Counts(launches.total(), moved.total(), by_name)


class Bodies(TorchDispatchMode):
    """Runs our operators on meta tensors by their bodies, where torch would take their shapes alone.

    Args:
        note: told the name of each operator of torch that launches a kernel, and the bytes that it moves.
    """

    def __init__(self, note: Callable[[str, int], None] = lambda name, size: None) -> None:
        super().__init__()
        self._note = note
        operators = (gated.OPERATOR, mixer.OPERATOR, mlp.OPERATOR, head.OPERATOR)
        self._bodies: dict[Any, Callable[..., Any]] = {op.packet.default: op.run_forward for op in operators}
        self._bodies |= {op.backward_packet.default: op.run_backward for op in operators}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if body := self._bodies.get(func):
            with self:
                return body(*args)
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _NOTHING and not _is_view(func):
            tensors = {id(t): t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)}
            self._note(name, sum(t.numel() * t.element_size() for t in tensors.values()))
        return out


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
