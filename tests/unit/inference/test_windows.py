"""Windows predict each base of a sequence but its first once, and read as much as they say before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.inference.windows import windows_of


@given(data=st.data(), length=st.integers(1, 500), l_max=st.integers(2, 60))
def test_each_base_once_with_its_context(data: st.DataObject, length: int, l_max: int) -> None:
    overlap = data.draw(st.integers(1, l_max - 1))
    windows = list(windows_of(3, "x", length, l_max, overlap))
    assert [base for window in windows for base in range(window.first, window.end)] == list(range(1, length))
    for window in windows:
        assert window.sequence == 3
        assert window.end - window.start - 1 <= l_max  # the last base is predicted and not read
        assert window.first - window.start >= min(overlap, window.first)


def test_one_window_needs_no_overlap() -> None:
    assert list(windows_of(0, "x", 65, 64, None)) == [(0, 0, 1, 65)] == list(windows_of(0, "x", 65, 64, 30))
    with pytest.raises(UserError, match=r"'x' has 66 bases and the model reads 64 .* --overlap 32"):
        list(windows_of(0, "x", 66, 64, None))
