"""Parts of windows, by their definition."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.train.evaluation.positions import WHOLE, Positions


@given(st.integers(1, 3000))
def test_octaves_hold_every_target_once(length: int) -> None:
    octaves = Positions.of(length).octaves
    held = [before for low, high in octaves for before in range(low + 1, high + 1)]
    assert held == list(range(1, length + 1))
    assert all(high <= 2 * max(low, 0.5) for low, high in octaves)


@given(st.data(), st.integers(1, 40), st.integers(1, 3))
def test_sums_are_those_of_the_definition(data: st.DataObject, length: int, parts: int) -> None:
    rows = data.draw(st.integers(1, 3))
    sizes = torch.tensor(data.draw(st.lists(st.integers(1, length), min_size=rows, max_size=rows)))
    last = tuple(data.draw(st.lists(st.integers(1, length), max_size=2)))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    targets = torch.randint(-1, 2, (rows, length))
    targets[torch.arange(length) >= sizes[:, None]] = -1
    nll = torch.rand(rows, length).where(targets >= 0, 0)
    positions = Positions.of(length, last)
    # Context ranks have contiguous chunks of the windows, and their sums add up.
    edges = [length * i // parts for i in range(parts + 1)]
    chunks = [slice(low, high) for low, high in pairwise(edges)]
    found = sum(positions.sums(nll[:, chunk], targets[:, chunk], sizes, chunk.start) for chunk in chunks)
    assert found.shape == (rows, positions.parts, 2)
    for row in range(rows):
        counted = [j for j in range(length) if targets[row, j] >= 0]
        groups = [counted]
        groups += [[j for j in counted if low < j + 1 <= high] for low, high in positions.octaves]
        groups += [[j for j in counted if j >= sizes[row] - most] for most in last]
        expected = [[sum(nll[row, j].item() for j in group), len(group)] for group in groups]
        torch.testing.assert_close(found[row], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert torch.equal(WHOLE.sums(nll, targets, sizes), positions.sums(nll, targets, sizes)[:, :1])
