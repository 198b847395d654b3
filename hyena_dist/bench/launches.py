"""Counts of the kernels that a training step launches on a GPU, and of the bytes that they move, on meta tensors.

Every operator of torch that is not a view counts as one launch, which moves each of its operands and results once; an
FFT of torch's is one too, though on a GPU it takes several. Operators of ours are counted by what they do inside.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyena_dist.bench.reference_model import as_published
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.ops import backend
from hyena_dist.ops.record_op import RecordOp

README = Path(__file__).parents[1] / "ops/README.md"
MARKS = ("<!-- hyena-dist bench launches --write -->\n", "<!-- end -->\n")
"""The lines of README between which the table stands."""
LENGTHS = (1024, 32_768, 1_048_576)

_NOTHING = (
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "detach",
    "_unsafe_view",
    "lift_fresh",
    "promote_types",
)
"""Operators that launch nothing, besides views."""


class Counts(NamedTuple):
    """The launches of a step on a GPU."""

    launches: int
    moved: int
    """Bytes that are read or written, each operand once a launch."""
    by_name: dict[str, tuple[int, int]]
    """Launches and bytes of each operator or kernel."""


def count(step: Callable[[], object]) -> Counts:
    """Count what a step on meta tensors launches once it has run before: the first one makes tables, which stay."""
    from hyena_dist.ops.triton.launch import Launch, observed

    launches: Counter[str] = Counter()
    moved: Counter[str] = Counter()

    def note(name: str, size: int) -> None:
        launches[name] += 1
        moved[name] += size

    def of_kernel(launch: Launch) -> None:
        note(launch.name, launch.moved)

    with Bodies():
        step()
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
        self._bodies: dict[Any, Callable[..., Any]] = {op.packet.default: op.run_forward for op in RecordOp.made}
        self._bodies |= {op.backward_packet.default: op.run_backward for op in RecordOp.made}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if body := self._bodies.get(func):
            with self:
                return body(*args)
        # Within a body autograd does not take operators apart, such as a reshape, which may be a view or a copy.
        with self:
            out = func.decompose(*args, **(kwargs or {}))
        if out is not NotImplemented:
            return out
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _NOTHING and not _is_view(func):
            tensors = {id(t): t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)}
            self._note(name, sum(t.numel() * t.element_size() for t in tensors.values()))
        return out


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


class Case(NamedTuple):
    """A training step of a model with d_model 128 and 2 layers, without dropout."""

    length: int
    dtype: torch.dtype = torch.bfloat16
    batch: int = 1
    published: bool = False
    """Whether the mixers and MLPs are the published computation, in torch's operators."""

    def on_meta(self) -> Callable[[], None]:
        """Return a function that runs forward and backward on meta tensors, as a GPU would."""
        with torch.device("meta"):
            config = ModelConfig(d_model=128, n_layer=2, l_max=max(2, self.length), embed_dropout=0.0)
            model = HyenaDNA(config, compute_dtype=self.dtype)
            tokens = torch.empty(self.batch, self.length, dtype=torch.int64)
        if self.published:
            as_published(model)

        def step() -> None:
            model.zero_grad()  # so that gradients are written, not added up
            with _backend("torch" if self.published else "triton"):
                nll_sum = model(tokens, tokens, skip_logits=True).nll_sum
                nll_sum.backward()

        return step


@contextmanager
def _backend(name: str) -> Iterator[None]:
    before = os.environ.get(backend.VARIABLE)
    os.environ[backend.VARIABLE] = name
    try:
        yield
    finally:
        del os.environ[backend.VARIABLE]
        if before is not None:
            os.environ[backend.VARIABLE] = before


def bench_launches(lengths: Sequence[int] = LENGTHS, write: bool = False) -> None:
    """Print the table of launches and bytes, ours beside the published computation's.

    Args:
        lengths: the lengths of its rows.
        write: whether to put it into the operators' README too.

    Raises:
        UserError: the README is not there, as in an installation without the repository.
    """
    text = table(lengths)
    print(text, end="")
    if write:
        if not README.is_file():
            raise UserError(f"there is no {README}; --write is for a clone of the repository")
        before, _, rest = README.read_text().partition(MARKS[0])
        README.write_text(before + MARKS[0] + text + MARKS[1] + rest.partition(MARKS[1])[2])


def table(lengths: Sequence[int]) -> str:
    """Return a table in Markdown of launches and bytes of a step in bf16 with batch 1."""
    lines = ["| length | launches | published | GB moved | published | ratio |", "|---|---|---|---|---|---|"]
    for length in lengths:
        ours, published = (count(Case(length, published=which).on_meta()) for which in (False, True))
        lines.append(
            f"| {length:,} | {ours.launches:,} | {published.launches:,} | {ours.moved / 1e9:.2f} | "
            f"{published.moved / 1e9:.2f} | {ours.moved / published.moved:.2f} |"
        )
    return "\n".join(lines) + "\n"
