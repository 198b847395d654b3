"""The lower-case mask is stored as ranges and read as one boolean for each base."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hyena_dist.data.store import GenomeStore
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


@pytest.mark.parametrize("damage", ["missing", "truncated", "emptied"])
@pytest.mark.parametrize("file", ["zarr.json", "c/0/0"])
def test_missing_and_damaged_files(store_copy: Path, file: str, damage: str) -> None:
    path = store_copy / "genome.zarr/soft_mask/big" / file
    content = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(content[: len(content) // 2 * (damage == "truncated")])
    store = GenomeStore.open(store_copy)
    with pytest.raises(UserError, match=r"soft_mask/big .*, so that big:0-200000 cannot be read; .*data verify"):
        store.soft_mask("big", 0, 10)
    assert store.soft_mask("small", 0, 500).any()


def test_ranges_that_were_changed(store_copy: Path) -> None:
    """A mask of as many bases elsewhere is for `verify`; another number, or ranges out of order, are noticed here."""
    array = zarr.open_array(str(store_copy / "genome.zarr/soft_mask/big"), mode="r+")
    ranges = array[...]
    for changed in (ranges[::-1], ranges + np.array([0, 1]), ranges * 0):
        array[...] = changed
        with pytest.raises(UserError, match="does not hold the lower-case bases that the manifest counts"):
            GenomeStore.open(store_copy).soft_mask("big", 0, 10)


def test_where_there_is_none(store_folder: Path, shards_folder: Path) -> None:
    assert GenomeStore.open(store_folder).has_soft_mask
    assert not GenomeStore.open(shards_folder).has_soft_mask
    with pytest.raises(UserError, match="has no lower-case mask; open the folder of a store"):
        GenomeStore.open(shards_folder).soft_mask("big", 0, 10)
