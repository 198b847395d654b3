"""Computed permutations are permutations, of any size, and never change."""

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.permutation import key_of, mix, permute

keys = st.integers(0, 2**64 - 1)


def permuted(size: int, key: int, elements: list[int] | None = None) -> list[int]:
    x = np.arange(size) if elements is None else np.array(elements)
    return permute(x, np.full_like(x, size), np.full(x.size, key, np.uint64)).tolist()


@given(st.integers(1, 3000), keys)
def test_all_elements_once(size: int, key: int) -> None:
    assert sorted(permuted(size, key)) == list(range(size))


@given(st.integers(1, 2**62), keys, st.lists(st.integers(0, 2**62), min_size=1, max_size=50))
def test_large_sizes_without_storing_anything(size: int, key: int, numbers: list[int]) -> None:
    elements = sorted({number % size for number in numbers})
    images = permuted(size, key, elements)
    assert len(set(images)) == len(elements)
    assert all(0 <= image < size for image in images)


@given(st.lists(st.tuples(st.integers(1, 500), keys, st.integers(0, 10**6)), min_size=1, max_size=40))
def test_each_element_has_its_own_size_and_key(cases: list[tuple[int, int, int]]) -> None:
    sizes, chosen, elements = zip(*((size, key, number % size) for size, key, number in cases), strict=True)
    together = permute(np.array(elements), np.array(sizes), np.array(chosen, np.uint64)).tolist()
    assert together == [permuted(s, k, [e])[0] for s, k, e in zip(sizes, chosen, elements, strict=True)]


def test_every_order_happens() -> None:
    for size in (2, 3, 4):
        found = [tuple(permuted(size, int(key_of(seed)))) for seed in range(500)]
        assert set(found) == set(permutations(range(size)))


def test_neighbours_and_keys_are_unrelated() -> None:
    a, b = (np.array(permuted(34_021, int(key_of(0, epoch)))) for epoch in range(2))
    for x, y in ((a, np.arange(a.size)), (a[1:], a[:-1]), (a, b)):
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(a.size)
        assert (x == y).sum() < 10


@settings(max_examples=20)
@given(keys)
def test_mixed_bits_are_even(key: int) -> None:
    bits = mix(np.arange(4096), np.uint64(key))
    for bit in range(64):
        ones = int(((bits >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - 2048) < 6 * 32, bit


def test_the_order_of_samples_never_changes() -> None:
    """Runs that resume, and results that others repeat, rest on these numbers."""
    key = int(key_of(1, 2, 3))
    assert key == 12997252459554536576
    assert permuted(10, key) == [1, 0, 3, 7, 2, 5, 6, 9, 4, 8]
    assert mix(np.array([0, 1, 2**40]), np.uint64(5)).tolist() == [
        13168350753275463132,
        7134611160154358618,
        2209595409289230298,
    ]
