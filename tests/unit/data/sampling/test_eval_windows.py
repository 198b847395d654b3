"""The windows of an evaluation lie side by side and predict every base once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store.manifest import Interval

regions_of = st.lists(st.integers(1, 60), min_size=1, max_size=4).map(
    lambda sizes: [Interval(f"c{i % 2}", 100 * i + 5, 100 * i + 5 + size) for i, size in enumerate(sizes)]
)


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
