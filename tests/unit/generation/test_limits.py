"""Limits forbid what a search of the whole sequence forbids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist import UserError
from hyena_dist.generation.limits import Limits

SEQUENCES = st.lists(st.integers(0, 4), max_size=60)  # 4 is a letter that is no base


def allowed(sequence: list[int], max_run: int | None, no_repeat: int | None) -> list[bool]:
    limits = Limits(max_run, no_repeat)
    limits.take(np.array(sequence, dtype=np.int64))
    found: list[bool] = limits.allowed().tolist()
    return found


@given(sequence=SEQUENCES, longest=st.integers(1, 4))
def test_runs(sequence: list[int], longest: int) -> None:
    expected = [sequence[-longest:] != [base] * longest for base in range(4)]
    assert allowed(sequence, longest, None) == expected


@given(sequence=SEQUENCES, n=st.integers(2, 4))
def test_n_grams(sequence: list[int], n: int) -> None:
    windows = (tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))
    grams = {window for window in windows if 4 not in window}
    expected = [(*sequence[len(sequence) - n + 1 :], base) not in grams for base in range(4)]
    assert allowed(sequence, None, n) == (expected if any(expected) else [True] * 4)


def test_where_no_base_is_left_n_grams_do_not_count_but_runs_do() -> None:
    every_pair = [0, 0, 1, 0, 2, 0, 3, 1, 1, 2, 1, 3, 2, 2, 3, 3, 0]
    assert allowed(every_pair, None, 2) == [True] * 4
    assert allowed(every_pair, 1, 2) == [False, True, True, True]


def test_limits_below_the_least_are_refused() -> None:
    with pytest.raises(UserError, match="max_run 0 lets no base stand"):
        Limits(0, None)
    with pytest.raises(UserError, match="no_repeat 1 would end after four bases"):
        Limits(None, 1)
