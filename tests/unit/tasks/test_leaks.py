"""Leaks are those that a comparison of all pairs finds, and are left out of train or refused where users say so."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.tokenizer import decode, encode, reverse_complement
from hyena_dist.errors import UserError
from hyena_dist.tasks.kmer_sets import K, similar_pairs
from hyena_dist.tasks.labelled import LabelledData
from hyena_dist.tasks.leaks import LEAK_KINDS, SIMILARITY, describe_leaks, find_leaks, leaks_between, settle_leaks
from tests.unit.tasks.sets import examples, texts


def turn(text: str) -> str:
    return decode(reverse_complement(encode(text)))


def words(text: str) -> set[str]:
    found = {text[i : i + K] for i in range(len(text) - K + 1)}
    return {min(word, turn(word)) for word in found if "N" not in word}


def similarity(a: str, b: str) -> float:
    both = words(a) | words(b)
    return len(words(a) & words(b)) / len(both) if both else 0.0


@st.composite
def relatives(draw: st.DrawFn) -> list[str]:
    """Parts, mutants and other strands of a few ancestors, some of them of one letter or with N."""
    ancestors = [*texts(3, 70, seed=draw(st.integers(0, 3))), "A" * 70, "CA" * 35, "ACGTN" * 14]
    made = []
    for _ in range(draw(st.integers(1, 8))):
        text = draw(st.sampled_from(ancestors))
        start = draw(st.integers(0, 40))
        text = text[start : start + draw(st.integers(1, 70))]
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(text) - 1))
            text = text[:at] + draw(st.sampled_from("ACGTN")) + text[at + 1 :]
        made.append(turn(text) if draw(st.booleans()) else text)
    return made


@settings(max_examples=30, deadline=None)
@given(relatives(), relatives(), st.sampled_from([0.2, 0.5, 0.9]))
def test_no_similar_pair_is_missed(ours: list[str], theirs: list[str], least: float) -> None:
    found = {
        (i, j): round(value, 9)
        for i, j, value in zip(*similar_pairs(examples(ours), examples(theirs), least), strict=True)
    }
    pairs = itertools.product(enumerate(ours), enumerate(theirs))
    every = {(i, j): round(similarity(a, b), 9) for (i, a), (j, b) in pairs}
    assert found == {pair: value for pair, value in every.items() if value >= least}


@settings(max_examples=30, deadline=None)
@given(relatives(), relatives())
def test_kinds_and_partners_are_those_of_all_pairs(ours: list[str], theirs: list[str]) -> None:
    leaks = leaks_between(examples(ours), examples(theirs))
    kinds: dict[str, list[int]] = {kind: [] for kind in LEAK_KINDS}
    partners: dict[str, list[int]] = {kind: [] for kind in LEAK_KINDS}
    leaking = set()
    for i, text in enumerate(ours):
        alike = [similarity(text, other) for other in theirs]
        leaking |= {j for j, other in enumerate(theirs) if text in (other, turn(other)) or alike[j] >= SIMILARITY}
        if text in theirs:
            kinds["exact"].append(i)
            partners["exact"].append(theirs.index(text))
        elif turn(text) in theirs:
            kinds["reverse_complement"].append(i)
            partners["reverse_complement"].append(min(j for j, other in enumerate(theirs) if other == turn(text)))
        elif max(alike) >= SIMILARITY:
            kinds["near"].append(i)
            partners["near"].append(int(np.argmax(alike)))
    assert {kind: found.tolist() for kind, found in leaks.held_out.items()} == kinds
    assert {kind: found.tolist() for kind, found in leaks.train.items()} == partners
    assert leaks.all_train.tolist() == sorted(leaking)
    assert leaks.all_held_out.tolist() == sorted(itertools.chain(*kinds.values()))
    assert leaks.size == len(ours)


def a_set(train: list[str], valid: list[str], test: list[str]) -> LabelledData:
    splits = {"train": examples(train), "valid": examples(valid), "test": examples(test)}
    return LabelledData("single_label", ("a", "b"), splits, "x")


@pytest.fixture
def leaky() -> LabelledData:
    """Train of 8, of which test has one, the other strand of another and one of which a part is missing; valid one."""
    every = texts(10, 80)
    return a_set(every[:8], [every[1], every[8]], [every[2], turn(every[3]), every[4][5:], every[9]])


def test_leaks_are_counted_by_split(leaky: LabelledData) -> None:
    lines = describe_leaks(find_leaks(leaky))
    assert [line.partition(" (")[0] for line in lines] == [
        "1 of 2 valid sequences are in train: 1 exact, 0 reverse-complement, 0 near-duplicate",
        "3 of 4 test sequences are in train: 1 exact, 1 reverse-complement, 1 near-duplicate",
    ]


def test_train_loses_what_leaks_and_test_stays_whole(leaky: LabelledData) -> None:
    said: list[str] = []
    kept = settle_leaks(leaky, "drop", said.append)
    assert kept.splits["train"].names == ["0", "5", "6", "7"]
    assert kept.splits["test"] is leaky.splits["test"]
    assert kept.fingerprint != leaky.fingerprint
    assert "left 4 sequences out of train" in said[0]
    assert settle_leaks(kept, "drop", said.append) is kept
    assert settle_leaks(kept, "refuse", said.append) is kept
    assert len(said) == 1


def test_leaks_are_refused_in_one_sentence(leaky: LabelledData) -> None:
    with pytest.raises(UserError, match=re.escape("1 exact, 1 reverse-complement, 1 near-duplicate")) as error:
        settle_leaks(leaky, "refuse", print)
    assert "set drop to leave 4 sequences out of train" in str(error.value)


def test_what_was_cut_from_train_counts_as_train() -> None:
    """A test sequence that came into valid by the cut is a leak of the set; where valid was given, train is asked."""
    every = texts(6, 80)
    given = a_set(every[:2], every[2:4], [every[1], turn(every[3]), every[4]])
    cut = replace(given, valid_from_train=True)
    assert find_leaks(given)["test"].all_held_out.tolist() == [0]
    leaks = find_leaks(cut)["test"]
    assert {kind: (at.tolist(), leaks.train[kind].tolist()) for kind, at in leaks.held_out.items()} == {
        "exact": ([0], [1]),
        "reverse_complement": ([1], [3]),
        "near": ([], []),
    }
    kept = settle_leaks(cut, "drop", lambda _: None)
    assert {name: split.names for name, split in kept.splits.items()} == {
        "train": ["0"],
        "valid": ["0"],
        "test": ["0", "1", "2"],
    }
