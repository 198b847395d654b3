"""Names of SLURM node lists as `scontrol show hostnames` prints them.

What the cases expect was printed by scontrol 22.05, but for text after the last bracket, which that version refuses.
The law builds a list from what it stands for.
"""

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.errors import UserError
from hyena_dist.system.hosts import expand_hosts, first_host, free_port


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1 n2"),
        ("n1,n1", "n1 n1"),
        ("node[1-2]", "node1 node2"),
        ("gpu[007-009,020],cpu1", "gpu007 gpu008 gpu009 gpu020 cpu1"),
        ("n[8-11]", "n8 n9 n10 n11"),
        ("n[08-10]", "n08 n09 n10"),
        ("a,b[1-2]", "a b1 b2"),
        ("r[1-2]c[3-4]", "r1c3 r1c4 r2c3 r2c4"),
        ("a[01-03,7]x", "a01x a02x a03x a7x"),
        ("r[1-2]-eth", "r1-eth r2-eth"),
        ("r[1-2]n[3,5],login", "r1n3 r1n5 r2n3 r2n5 login"),
    ],
)
def test_lists(nodes: str, names: str) -> None:
    assert list(expand_hosts(nodes)) == names.split()
    assert first_host(nodes) == names.split()[0]


@pytest.mark.parametrize("nodes", ["", " ", "n[1", "n]1[", "n[a]", "n[3-1]", ",a", "a,", "n[[1]]", "n[]", "a b"])
def test_what_is_no_list(nodes: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"{nodes!r} is no SLURM list of nodes; it must look like")):
        first_host(nodes)


TEXT = st.text(alphabet="abz-.", min_size=1, max_size=3)
RANGES = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=3)
"""Ranges of a bracket, each a tuple (first number, how many follow, width with leading zeros)."""
NAMES = st.lists(st.tuples(TEXT, st.lists(st.tuples(RANGES, TEXT), max_size=3)), min_size=1, max_size=3)


@given(NAMES)
def test_a_list_stands_for_the_names_that_it_was_made_of(parts: list) -> None:
    """Each bracket's numbers follow their text, and the last bracket runs fastest."""
    words, expected = [], []
    for prefix, brackets in parts:
        word, names = prefix, [prefix]
        for ranges, text in brackets:
            numbers = [f"{first + i:0{width}d}" for first, more, width in ranges for i in range(more + 1)]
            spans = [f"{first:0{width}d}-{first + more:0{width}d}" for first, more, width in ranges]
            word += f"[{','.join(spans)}]{text}"
            names = [name + number + text for name in names for number in numbers]
        words.append(word)
        expected += names
    assert list(expand_hosts(",".join(words))) == expected


def test_a_free_port() -> None:
    port = free_port()
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
    assert port > 1023
