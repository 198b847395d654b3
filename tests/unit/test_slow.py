"""Entries of tests/slow.py name tests that exist, and no others."""

from pathlib import Path

import pytest

from tests.slow import SLOW, is_slow

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("key", SLOW)
def test_every_entry_names_a_test(key: str) -> None:
    file, _, test = key.partition("::")
    source = (TESTS / file).read_text()
    assert f"def {test.partition('[')[0]}(" in source if test else "def test_" in source
    assert len(SLOW[key].split()) > 2, "which faults only it catches"


def test_a_case_is_not_its_neighbour() -> None:
    case = "distributed/test_parity.py::test_equals_one_process[tp4cp1dp1]"
    assert case in SLOW
    assert is_slow(f"tests/{case}")
    assert not is_slow("tests/distributed/test_parity.py::test_equals_one_process[tp2cp1dp1]")
    assert is_slow("tests/distributed/test_resharding.py::test_nothing_is_lost_on_the_way")
    assert not is_slow("tests/distributed/test_bench_context.py::test_x")
