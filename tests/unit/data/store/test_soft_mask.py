"""The lower-case mask is stored as ranges and read as one boolean for each base."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.mask_edges import EdgeWriter
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.soft_mask import soft_mask
from hyena_dist.errors import UserError


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_range_equals_the_fasta(store_folder: Path, letters: dict[str, bytes], data) -> None:
    contig = data.draw(st.sampled_from(sorted(letters)))
    start = data.draw(st.integers(0, len(letters[contig])))
    end = min(len(letters[contig]), start + data.draw(st.integers(0, 30_000)))
    mask = GenomeStore.open(store_folder).soft_mask(contig, start, end)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [letter > 96 for letter in letters[contig][start:end]]


def test_it_is_the_callers_own(store_folder: Path) -> None:
    store = GenomeStore.open(store_folder)
    store.soft_mask("big", 0, 100_000)[:] = True
    assert not store.soft_mask("big", 0, 100_000).all()


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_missing_and_damaged_files(store_copy: Path, damage: str) -> None:
    path = store_copy / "index/soft_mask.npy"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1])[: damage == "changed"])
    store = GenomeStore.open(store_copy)
    with pytest.raises(UserError, match=r"index/soft_mask\.npy .*data verify"):
        store.soft_mask("big", 0, 10)
    assert store.read("big", 0, 10).size == 10


@given(st.lists(st.text("Aa", min_size=1, max_size=9), min_size=1, max_size=5), st.data())
def test_edges_of_blocks_and_contigs(tmp_path_factory: pytest.TempPathFactory, contigs: list[str], data) -> None:
    """Blocks may end anywhere; no range goes on over the end of a contig."""
    path = tmp_path_factory.mktemp("edges") / "mask.bin"
    writer = EdgeWriter(path)
    for contig in contigs:
        cut = data.draw(st.integers(0, len(contig)))
        for block in (contig[:cut], contig[cut:]):
            lower = np.array([letter == "a" for letter in block], bool)
            writer.write(lower.size, lower if lower.any() else None)
        writer.end_contig()
    writer.close()
    edges = np.fromfile(path, "<i8")
    text = "".join(contigs)
    ends = np.cumsum([len(contig) for contig in contigs])
    expected = [m.span() for c, e in zip(contigs, ends, strict=True) for m in re.finditer("a+", c) for _ in [e]]
    starts = [int(e) - len(c) for c, e in zip(contigs, ends, strict=True) for _ in re.finditer("a+", c)]
    assert edges.reshape(-1, 2).tolist() == [[s + a, s + b] for s, (a, b) in zip(starts, expected, strict=True)]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert soft_mask(edges, start, end).tolist() == [letter == "a" for letter in text[start:end]]


def test_where_there_is_none(store_folder: Path, shards_folder: Path) -> None:
    assert GenomeStore.open(store_folder).has_soft_mask
    assert not GenomeStore.open(shards_folder).has_soft_mask
    with pytest.raises(UserError, match="has no lower-case mask; open the folder of a store"):
        GenomeStore.open(shards_folder).soft_mask("big", 0, 10)
