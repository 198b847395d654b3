"""Which window is read when."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.manifest import Interval
from hyena_dist.data.windows import WindowSampler, tile
from hyena_dist.errors import UserError

regions_of = st.lists(st.integers(1, 60), min_size=1, max_size=4).map(
    lambda sizes: [Interval(f"c{i % 2}", 100 * i + 5, 100 * i + 5 + size) for i, size in enumerate(sizes)]
)
numbers = st.integers(0, 2**31)


@given(regions_of, st.integers(1, 59), numbers, numbers, numbers, st.booleans())
def test_inside_a_region_and_a_pure_function(
    regions: list[Interval], length: int, seed: int, step: int, sample: int, both: bool
) -> None:
    if max(r.end - r.start for r in regions) <= length:
        with pytest.raises(UserError, match=f"seq_length {length} needs regions of {length + 1} bases, the longest"):
            WindowSampler(regions, length, seed, both)
        return
    sampler = WindowSampler(regions, length, seed, both)
    window = sampler.window(step, sample)
    assert window.end - window.start == length + 1
    assert any(r.contig == window.contig and r.start <= window.start and window.end <= r.end for r in regions)
    assert both or not window.reverse
    # Whatever was asked before, and from another object.
    sampler.window(step + 1, sample)
    assert sampler.window(step, sample) == window == WindowSampler(regions, length, seed, both).window(step, sample)


def test_all_starts_are_reachable_and_equally_likely() -> None:
    regions = [Interval("a", 10, 25), Interval("b", 0, 4), Interval("b", 50, 58)]
    sampler = WindowSampler(regions, 5, 0, True)
    expected = {("a", s) for s in range(10, 20)} | {("b", s) for s in range(50, 53)}
    draws = [sampler.window(step, sample) for step in range(130) for sample in range(20)]
    counts = {key: sum((w.contig, w.start) == key for w in draws) for key in {(w.contig, w.start) for w in draws}}
    assert counts.keys() == expected
    # 2,600 draws over 13 starts: 200 each, five standard deviations around it.
    assert all(130 < count < 270 for count in counts.values())
    assert 0.45 < np.mean([w.reverse for w in draws]) < 0.55


def test_no_regions() -> None:
    with pytest.raises(UserError, match="the longest for training has 0"):
        WindowSampler([], 4, 0, False)


def test_seed_step_and_sample_all_matter() -> None:
    samplers = [WindowSampler([Interval("a", 0, 10**9)], 10, seed, False) for seed in range(8)]
    windows = {s.window(step, sample) for s in samplers for step in range(8) for sample in range(8)}
    assert len(windows) == 8**3


def test_reverse_complement_does_not_move_the_windows() -> None:
    regions = [Interval("a", 0, 1000)]
    one, both = (WindowSampler(regions, 10, 0, flag) for flag in (False, True))
    for sample in range(20):
        assert both.window(0, sample)._replace(reverse=False) == one.window(0, sample)


@settings(max_examples=100)
@given(regions_of, st.integers(1, 59))
def test_tile_holds_each_target_once(regions: list[Interval], length: int) -> None:
    windows = tile(regions, length, 10**6)
    targets = [(w.contig, position) for w in windows for position in range(w.start + 1, w.end)]
    assert len(targets) == len(set(targets)) == length * len(windows)
    for region in regions:
        inside = [w for w in windows if w.contig == region.contig and region.start <= w.start < region.end]
        assert all(w.end - w.start == length + 1 and w.end <= region.end for w in inside)
        # From the region's second base on without a gap; what is left at its end is less than a window's targets.
        assert [w.start for w in inside] == [region.start + i * length for i in range(len(inside))]
        assert len(inside) == (region.end - region.start - 1) // length
    assert not any(w.reverse for w in windows)


@given(st.integers(1, 40), st.integers(1, 60))
def test_thinning_is_even(most: int, windows: int) -> None:
    everything = tile([Interval("a", 0, windows * 5 + 1)], 5, 10**6)
    assert len(everything) == windows
    chosen = tile([Interval("a", 0, windows * 5 + 1)], 5, most)
    assert len(chosen) == min(most, windows)
    assert len(set(chosen)) == len(chosen)
    assert chosen[0] == everything[0]
    if most > 1:
        assert chosen[-1] == everything[-1]
        gaps = np.diff([everything.index(w) for w in chosen])
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1
