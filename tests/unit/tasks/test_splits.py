"""Splits are cut alike whatever the order of rows, and never part a sequence from its duplicates."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.config.task_data import TaskData
from hyena_dist.data.tokenizer import encode, reverse_complement
from hyena_dist.tasks.labelled import SPLITS
from hyena_dist.tasks.splits import cut, indices
from hyena_dist.tasks.strands import strand_hash

rows = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3), st.sampled_from(SPLITS)), min_size=1, max_size=60
)
cuts = st.builds(
    lambda folds, fold, share: TaskData(path="x", folds=folds, fold=fold % max(folds, 1), valid_fraction=share),
    st.sampled_from([0, 2, 3, 5]),
    st.integers(0, 4),
    st.sampled_from([0.1, 0.25]),
)


def split_of(drawn: list[tuple[int, int, str]], settings: TaskData, has_splits: bool) -> list[str]:
    hashes, strata, splits = zip(*drawn, strict=True)
    given = splits if has_splits else None
    return cut(np.array(hashes, np.uint64), given, settings, np.array(strata, np.int64)).tolist()


@given(rows, cuts, st.booleans(), st.randoms(use_true_random=False))
def test_splits_are_a_partition_and_do_not_depend_on_the_order_of_rows(
    drawn: list[tuple[int, int, str]], settings: TaskData, has_splits: bool, random: np.random.Generator
) -> None:
    found = split_of(drawn, settings, has_splits)
    parts = indices(np.array(found))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(drawn)))
    order = list(range(len(drawn)))
    random.shuffle(order)
    assert split_of([drawn[i] for i in order], settings, has_splits) == [found[i] for i in order]
    if has_splits and any(split == "test" for *_, split in drawn):
        assert [s == "test" for s in found] == [split == "test" for *_, split in drawn]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.just("train")), min_size=1, max_size=60), cuts)
def test_duplicates_stay_together(drawn: list[tuple[int, int, str]], settings: TaskData) -> None:
    """Even of rows with the same sequence and different labels."""
    found = split_of(drawn, settings, False)
    assert len(set(zip([h for h, *_ in drawn], found, strict=True))) == len({h for h, *_ in drawn})


@given(rows.filter(lambda drawn: len({h for h, *_ in drawn}) >= 5))
def test_each_sequence_is_held_out_by_one_fold(drawn: list[tuple[int, int, str]]) -> None:
    for has_splits in (False, True):
        had_test = has_splits and any(split == "test" for *_, split in drawn)
        held_out = [split_of(drawn, TaskData(path="x", folds=5, fold=k), has_splits) for k in range(5)]
        name = "valid" if had_test else "test"
        pool = [i for i, (*_, split) in enumerate(drawn) if not had_test or split != "test"]
        assert all(sum(fold[i] == name for fold in held_out) == 1 for i in pool)


def test_each_class_has_its_share() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 1000).astype(np.uint64)
    strata = np.repeat([0, 1], [900, 100])
    settings = TaskData(path="x", test_fraction=0.2, valid_fraction=0.1)
    for kind, counts in ((0, (648, 72, 180)), (1, (72, 8, 20))):
        splits = Counter(cut(hashes, None, settings, strata)[strata == kind].tolist())
        assert tuple(splits[name] for name in SPLITS) == pytest.approx(counts, abs=1)


@given(st.text("ACGTN", min_size=1, max_size=30), st.text("ACGTN", min_size=1, max_size=30))
def test_hashes_are_those_of_both_strands_and_of_no_other(text: str, other: str) -> None:
    tokens, turned = encode(text), reverse_complement(encode(text))
    assert strand_hash(tokens) == strand_hash(turned)
    same = np.array_equal(tokens, encode(other)) or np.array_equal(turned, encode(other))
    assert (strand_hash(encode(other)) == strand_hash(tokens)) == same
