"""Operators of torch whose inputs, kept tensors and gradients have names.

torch.library registers operators that take flat arguments. Here, and nowhere else, a record (a NamedTuple of tensors,
numbers and further records) is spread out into such arguments and put together again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, get_type_hints

import torch
from torch import Tensor
from torch.library import custom_op

from hyena_dist.ops.backend import backend_of

Inputs = TypeVar("Inputs", bound=NamedTuple)
Kept = TypeVar("Kept")
Record = TypeVar("Record", bound=tuple[Any, ...])

_SCHEMA = {Tensor: "Tensor", float: "float", int: "SymInt", bool: "bool", torch.dtype: "ScalarType"}
"""Type of a record's field -> its name in the schema of an operator."""


class Implementation(NamedTuple):
    """The functions that make up an operator."""

    forward: Callable[[Any, bool], tuple[Tensor, Any]]
    """A function (inputs, whether a backward pass may follow) -> its value, and what `backward` wants to have besides
    the inputs: tensors, in any records, and None for what there is not."""
    empty: Callable[[Any, bool], tuple[Tensor, Any]]
    """A function that returns what `forward` does, as new tensors of the right shapes and types."""
    kept: Callable[[Sequence[Tensor]], Any]
    """A function that puts together from a flat list what `forward` kept."""
    backward: Callable[[Tensor, Any, Any], Any]
    """A function (gradient of the value, inputs, kept) -> a record of the inputs' type with gradients in place of the
    floating tensors; its other fields are ignored."""


class RecordOp(Generic[Inputs, Kept]):
    """The operator hyena_dist::<name>, and hyena_dist::<name>_backward, which computes its gradients.

    To torch.compile each of them is one node, to FlopCounterMode one entry; a second derivative is refused in words.

    Args:
        name: how torch calls the operator.
        title: how an error calls it.
        inputs: the type of the record that it takes. Its floating tensors are differentiated.
        forward: `Implementation.forward` in torch's operators, for any device.
        empty: `Implementation.empty` likewise.
        kept: `Implementation.kept` likewise.
        backward: `Implementation.backward` likewise.
        triton: the name of a module with four such functions in Triton kernels, and with `takes(inputs) -> bool`, which
            says whether they can do it; `backend_of` says on which devices they do.
    """

    made: ClassVar[list["RecordOp[Any, Any]"]] = []
    """All operators of this process."""

    def __init__(
        self,
        name: str,
        title: str,
        inputs: type[Inputs],
        *,
        forward: Callable[[Inputs, bool], tuple[Tensor, Any]],
        empty: Callable[[Inputs, bool], tuple[Tensor, Any]],
        kept: Callable[[Sequence[Tensor]], Kept],
        backward: Callable[[Tensor, Inputs, Kept], Inputs],
        triton: str | None = None,
    ) -> None:
        self.inputs = inputs
        self._torch = Implementation(forward, empty, kept, backward)
        self._triton = triton
        arguments = ", ".join(_schema(inputs))
        keeping = f"({arguments}, bool keep) -> (Tensor, Tensor[])"
        taking = f"(Tensor dy, {arguments}, Tensor[] kept) -> Tensor[]"

        @custom_op(f"hyena_dist::{name}", mutates_args=(), schema=keeping)
        def run(*flat: Any) -> tuple[Tensor, list[Tensor]]:
            return self.run_forward(*flat)

        @run.register_fake
        def _(*flat: Any) -> tuple[Tensor, list[Tensor]]:
            inputs, keep = self.forward_arguments(flat)
            y, kept = self._implementation(inputs).empty(inputs, keep)
            return y, flatten(kept)

        @custom_op(f"hyena_dist::{name}_backward", mutates_args=(), schema=taking)
        def run_backward(*flat: Any) -> list[Tensor]:
            return self.run_backward(*flat)

        @run_backward.register_fake
        def _(*flat: Any) -> list[Tensor]:
            return [
                torch.empty_like(given) for given in flatten(self.backward_arguments(flat)[1]) if _differentiable(given)
            ]

        def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
            *given, _ = inputs
            ctx.set_materialize_grads(False)
            ctx.constants = [None if isinstance(field, Tensor) else field for field in given]
            ctx.save_for_backward(*(field for field in given if isinstance(field, Tensor)), *output[1])

        def differentiate(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
            if dy is None:
                return (None,) * (len(ctx.constants) + 1)
            saved = iter(ctx.saved_tensors)  # once: under activation checkpointing a second look is an error
            given = [next(saved) if constant is None else constant for constant in ctx.constants]
            gradients = iter(run_backward(dy, *given, [*saved]))
            return *(next(gradients) if _differentiable(field) else None for field in given), None

        def refuse(ctx: Any, *gradients: Tensor) -> None:
            raise NotImplementedError(
                f"{title} is differentiable once: a second derivative through it is not implemented; "
                "take its gradient without create_graph=True"
            )

        run.register_autograd(differentiate, setup_context=save)
        run_backward.register_autograd(refuse)
        self._run = run
        self.packet = getattr(torch.ops.hyena_dist, name)
        self.backward_packet = getattr(torch.ops.hyena_dist, f"{name}_backward")
        RecordOp.made.append(self)

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return the operator's value for these inputs."""
        y: Tensor = self._run(*flatten(inputs), torch.is_grad_enabled())[0]
        return y

    def forward_arguments(self, flat: Iterable[Any]) -> tuple[Inputs, bool]:
        """Return (inputs, keep), put together from the flat arguments of hyena_dist::<name>."""
        *given, keep = flat
        return _gather(self.inputs, iter(given)), keep

    def backward_arguments(self, flat: Iterable[Any]) -> tuple[Tensor, Inputs, list[Tensor]]:
        """Return (dy, inputs, flat list of what was kept) of the flat arguments of hyena_dist::<name>_backward."""
        dy, *given, kept = flat
        return dy, _gather(self.inputs, iter(given)), kept

    def run_forward(self, *flat: Any) -> tuple[Tensor, list[Tensor]]:
        """Do what hyena_dist::<name> does, on any tensors and without autograd."""
        inputs, keep = self.forward_arguments(flat)
        y, kept = self._implementation(inputs).forward(inputs, keep)
        return y, flatten(kept)

    def run_backward(self, *flat: Any) -> list[Tensor]:
        """Do what hyena_dist::<name>_backward does, on any tensors."""
        dy, inputs, kept = self.backward_arguments(flat)
        implementation = self._implementation(inputs)
        gradients = flatten(implementation.backward(dy, inputs, implementation.kept(kept)))
        return [d for d, given in zip(gradients, flatten(inputs), strict=True) if _differentiable(given)]

    def _implementation(self, inputs: Inputs) -> Implementation:
        device = next(field.device for field in flatten(inputs) if isinstance(field, Tensor))
        if self._triton is None or backend_of(device) == "torch":
            return self._torch
        module: Any = import_module(self._triton)
        if not module.takes(inputs):
            return self._torch
        return Implementation(module.forward, module.empty, module.kept, module.backward)


def flatten(record: Any) -> list[Any]:
    """Return all fields of a record and of records and sequences in it, in their order, without those that are None."""
    if record is None:
        return []
    if not isinstance(record, tuple | list):
        return [record]
    return [leaf for field in record for leaf in flatten(field)]


def _gather(kind: type[Record], flat: Iterator[Any]) -> Record:
    """A record of this type, put together from its fields as `flatten` orders them."""
    return kind(*(_gather(field, flat) if _is_record(field) else next(flat) for field in _fields(kind).values()))


def _schema(kind: type, prefix: str = "") -> list[str]:
    """The arguments, type and name, that a record is spread out into."""
    arguments = []
    for name, field in _fields(kind).items():
        arguments += _schema(field, f"{prefix}{name}_") if _is_record(field) else [f"{_SCHEMA[field]} {prefix}{name}"]
    return arguments


@cache
def _fields(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _is_record(kind: type) -> bool:
    return hasattr(kind, "_fields")


def _differentiable(field: Any) -> bool:
    return isinstance(field, Tensor) and field.is_floating_point()
