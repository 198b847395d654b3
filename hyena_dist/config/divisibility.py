"""The cuts of a run over tensor, context and data-parallel ranks that work, and the nearest one where one does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hyena_dist.errors import UserError


class _Rule(NamedTuple):
    """A condition on a layout, and what to say if it does not hold."""

    holds: bool
    problem: str
    """The value that breaks the rule, and the reason."""
    knobs: tuple[str | int, ...] = ()
    """What can mend a broken rule: names of fields, or the place of a length in `lengths`. The first is what `problem`
    is about."""
    otherwise: str = "set tensor_model_parallel_size and context_parallel_size to 1"
    """The fix to name if no value of a knob mends the rule."""


@dataclass(frozen=True)
class Layout:
    """The sizes that ranks share among them, and the numbers of ranks that share them."""

    tensor_model_parallel_size: int
    context_parallel_size: int
    sequence_parallel: bool
    d_model: int
    d_inner: int
    vocabulary: int
    """Rows of the embedding."""
    mixer_units: tuple[tuple[str, int], ...]
    """What mixers split over tensor ranks and share among context ranks, such as attention heads: (name, size) each."""
    l_max: int
    lengths: tuple[tuple[str, int], ...]
    """The lengths of all stages and evaluations: (where it comes from, seq_length) each."""

    def problem(self) -> str | None:
        """Return the first broken rule as a sentence with the nearest values that mend it; None if the layout works."""
        rules = list(self._rules())
        for number, rule in enumerate(rules):
            if rule.holds:
                continue
            fixes = []
            for knob in rule.knobs:
                if values := self._nearest_that_work(knob, number):
                    fixes.append(values if knob == rule.knobs[0] else f"{knob} {values}")
            return f"{rule.problem}; " + (f"try {', or '.join(fixes)}" if fixes else rule.otherwise)
        return None

    def data_parallel_size(self, world_size: int) -> int:
        """Return the data-parallel size: how many groups of ranks hold different samples.

        Raises:
            UserError: the ranks do not make whole groups.
        """
        t, c = self.tensor_model_parallel_size, self.context_parallel_size
        if world_size < 1 or world_size % (t * c):
            multiple = "multiple" if world_size > 0 else "positive multiple"
            raise UserError(
                f"world size {world_size} is not a {multiple} of tensor x context parallel size {t} x {c} = {t * c}; "
                f"start {nearest(world_size, _multiples_around(world_size, t * c))} ranks"
            )
        return world_size // (t * c)

    def describe(self, world_size: int) -> str:
        """Return a line that tells people how the ranks are laid out and what each holds."""
        t, c = self.tensor_model_parallel_size, self.context_parallel_size
        line = (
            f"layout: {world_size} rank{'s' * (world_size > 1)} = tensor {t} x context {c} x "
            f"data {self.data_parallel_size(world_size)}{', sequence parallel' * (self.length_unit > c)}"
        )
        lengths = sorted({length for _, length in self.lengths})
        shares = [f"{self.d_model // t:,} of {self.d_model:,} channels"] if t > 1 else []
        cuts = [(c, "positions")] if c > 1 else []
        cuts += [(self.length_unit, "positions of the residual stream")] if self.length_unit > c else []
        shares += [f"{', '.join(f'{n // parts:,} of {n:,}' for n in lengths)} {what}" for parts, what in cuts]
        return f"{line}; each rank holds {'; '.join(shares)}" if shares else line

    @property
    def length_unit(self) -> int:
        """The number that a length must be a multiple of."""
        return self.context_parallel_size * (self.tensor_model_parallel_size if self.sequence_parallel else 1)

    def _rules(self) -> Iterator[_Rule]:
        """Yield all rules, always as many and in one order: a number tells a rule in any layout of the same run."""
        t, c = self.tensor_model_parallel_size, self.context_parallel_size
        for where, length in self.lengths:
            yield _Rule(
                length <= self.l_max,
                f"seq_length {length} of {where} is longer than model.l_max {self.l_max}",
                otherwise=f"set model.l_max={length} or shorten the sequences",
            )
        split = [("model.d_model", self.d_model), ("model.d_inner", self.d_inner), *self.mixer_units]
        for name, size in [*split, ("the padded vocabulary", self.vocabulary)]:
            yield _Rule(
                size % t == 0,
                f"tensor_model_parallel_size {t} does not divide {name} {size} ({size} / {t} = {size / t:.2f})",
                ("tensor_model_parallel_size",),
            )
        for name, size in [("model.d_model", self.d_model), *self.mixer_units]:
            yield _Rule(
                size // t >= c,
                f"context_parallel_size {c} leaves ranks without a share of {name} {size} / "
                f"tensor_model_parallel_size {t} = {size // t}",
                ("context_parallel_size", "tensor_model_parallel_size"),
            )
        factors = [f"context_parallel_size {c}"] if c > 1 else []
        factors += [f"tensor_model_parallel_size {t}"] if self.length_unit > c else []
        unit = " x ".join(factors) + (f" = {self.length_unit}" if len(factors) > 1 else "")
        for place, (where, length) in enumerate(self.lengths):
            yield _Rule(
                length % self.length_unit == 0,
                f"seq_length {length} of {where} is not a multiple of {unit}"
                + " (sequence_parallel)" * (self.length_unit > c),
                (place, "context_parallel_size", "sequence_parallel"),
            )

    def _nearest_that_work(self, knob: str | int, number: int) -> str:
        """Return values of a knob that mend rule `number` and break no other, as a choice; empty if there are none."""
        before = self._broken()
        broken = {value: other._broken() for value, other in self._turned(knob)}
        mending = {value: left for value, left in broken.items() if left <= before - {number}}
        fewest = min(map(len, mending.values()), default=0)  # a second problem may have the same cure
        return nearest(self._value(knob), [value for value, left in mending.items() if len(left) == fewest])

    def _broken(self) -> set[int]:
        return {number for number, rule in enumerate(self._rules()) if not rule.holds}

    def _value(self, knob: str | int) -> int:
        value: int = self.lengths[knob][1] if isinstance(knob, int) else getattr(self, knob)
        return value

    def _turned(self, knob: str | int) -> Iterator[tuple[int, "Layout"]]:
        """Yield values of a knob around its present one, and the layout with each."""
        now = self._value(knob)
        if isinstance(knob, int):
            for length in _multiples_around(now, self.length_unit):
                changed = (self.lengths[knob][0], length)
                yield length, replace(self, lengths=(*self.lengths[:knob], changed, *self.lengths[knob + 1 :]))
        elif knob == "sequence_parallel":
            yield False, replace(self, sequence_parallel=False)
        else:
            for value in range(1, min(2 * now, self.d_model) + 1):
                yield value, replace(self, **{knob: value})  # type: ignore[arg-type]


def nearest(value: int, choices: Sequence[int]) -> str:
    """Return the nearest choices below and above a value as text: '2 or 4', empty if there are none."""
    below = sorted(n for n in choices if n < value)
    above = sorted(n for n in choices if n > value)
    return " or ".join(str(n).lower() for n in below[-1:] + above[:1])


def _multiples_around(value: int, unit: int) -> list[int]:
    """Return the multiples of a unit next to a value, those that are positive."""
    below = max(value, 0) // unit * unit
    return [n for n in (below, below + unit) if n > 0]
