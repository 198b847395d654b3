"""Windows may start exactly where a check of every position, one by one, allows it."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.sampling.valid_starts import (
    Ranges,
    Starts,
    common_starts,
    interval_starts,
    uniform_starts,
    with_little_n,
)


class Line(NamedTuple):
    """A line of positions, cut into free ranges, some of them with intervals, and ranges that are not free."""

    free: list[tuple[int, int]]
    intervals: list[tuple[int, int]]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    free = []
    intervals = []
    at = 0
    for _ in range(draw(st.integers(1, 4))):
        start = at + draw(st.integers(0, 5))
        at = start + draw(st.integers(1, 40))
        free.append((start, at))
        for _ in range(draw(st.integers(0, 3))):
            first = draw(st.integers(start, at - 1))
            intervals.append((first, draw(st.integers(first + 1, at))))
    return Line(free, intervals)


def ranges(pairs: list[tuple[int, int]]) -> Ranges:
    return Ranges(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)


def positions(pairs: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in pairs for at in range(start, end)}


pairs_of = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=6)


@given(pairs_of, st.lists(st.integers(-5, 80), max_size=9))
def test_counting_positions(pairs: list[tuple[int, int]], places: list[int]) -> None:
    merged = ranges(pairs).merged()
    rows = list(zip(*(edge.tolist() for edge in merged), strict=True))
    assert positions(rows) == positions(pairs)
    assert all(a[1] < b[0] for a, b in pairwise(rows))
    before = merged.before(np.array(places, dtype=np.int64)).tolist()
    assert before == [sum(at < place for at in positions(pairs)) for place in places]
    assert merged.inside(ranges(pairs)).tolist() == [end - start for start, end in pairs]


@settings(max_examples=200)
@given(lines(), st.integers(1, 45))
def test_every_start_around_every_interval(line: Line, size: int) -> None:
    for sampling in ("interval", "published"):
        starts, fits = interval_starts(ranges(line.free), ranges(line.intervals), size, sampling)
        rows = iter(zip(starts.low.tolist(), starts.high.tolist(), strict=True))
        for (start, end), fit in zip(line.intervals, fits.tolist(), strict=True):
            around = next(r for r in line.free if r[0] <= start and end <= r[1])
            inside = range(around[0], around[1] - size + 1)
            # Inside the interval, or holding it, or almost in the middle of it; in its free range in any case.
            middle, quarter = (start + end - size) // 2, (end - start) // 4
            wanted = [
                s
                for s in inside
                if (start <= s and s + size <= end)
                or (s <= start and end <= s + size)
                or (sampling == "interval" and abs(s - middle) <= quarter)
            ]
            assert fit == bool(inside)
            if not fit:
                continue
            low, high = next(rows)
            if sampling == "interval":
                assert list(range(low, high + 1)) == wanted
            else:
                centred = start if size <= end - start else start - -(-(size - (end - start)) // 2)
                assert low == high == min(wanted, key=lambda s: abs(s - centred))
        assert next(rows, None) is None


@given(lines(), st.integers(1, 45))
def test_every_start_in_the_free_ranges(line: Line, size: int) -> None:
    starts = uniform_starts(ranges(line.free), size)
    assert starts_of(starts) == [s for a, b in line.free for s in range(a, b - size + 1)]
    reach = starts.reach(size)
    assert positions(list(zip(*reach, strict=True))) == positions([r for r in line.free if r[1] - r[0] >= size])


@given(lines(), lines(), st.integers(1, 45))
def test_common_starts(line: Line, other: Line, size: int) -> None:
    """Each row keeps exactly its starts that are allowed, and knows where they come from."""
    starts, _ = interval_starts(ranges(line.free), ranges(line.intervals), size, "interval")
    allowed = uniform_starts(ranges(other.free), size)
    common, row = common_starts(starts, allowed)
    assert (common.windows > 0).all()
    everywhere = set(starts_of(allowed))
    for number, (low, high) in enumerate(zip(*starts, strict=True)):
        mine = Starts(common.low[row == number], common.high[row == number])
        assert starts_of(mine) == [s for s in range(low, high + 1) if s in everywhere]


def starts_of(starts: Starts) -> list[int]:
    return [
        s for low, high in zip(starts.low.tolist(), starts.high.tolist(), strict=True) for s in range(low, high + 1)
    ]


@settings(max_examples=300)
@given(lines(), pairs_of, st.integers(1, 20), st.floats(0, 1))
def test_every_start_with_little_n(line: Line, n: list[tuple[int, int]], size: int, share: float) -> None:
    starts = uniform_starts(ranges(line.free), size)
    if not starts.low.size:
        return
    is_n = positions(n) & positions(line.free)
    as_ranges = ranges([(at, at + 1) for at in sorted(is_n)]).merged()
    kept = with_little_n(starts, size, as_ranges, share)
    wanted = [s for s in starts_of(starts) if len(is_n & set(range(s, s + size))) <= int(share * size)]
    assert starts_of(kept) == wanted


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_without_any_n_all_are_kept(share: float) -> None:
    starts = Starts(np.array([0, 20]), np.array([9, 29]))
    assert starts_of(with_little_n(starts, 7, ranges([]), share)) == starts_of(starts)
