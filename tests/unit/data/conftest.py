"""A store and the shards made from it, of two contigs that are known letter by letter."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.build import BuildOptions, build_store
from data_prep.shards import ShardOptions, write_shards
from data_prep.splits import BlockSplits

LENGTHS = {"big": 200_000, "small": 500}  # big has several Zarr chunks and several windows of the shards


@pytest.fixture(scope="session")
def letters() -> dict[str, bytes]:
    """The sequences of the contigs: big has stretches of lower-case letters and of N, small mixes all letters."""
    draw = np.random.default_rng(1)
    big = draw.choice(np.frombuffer(b"ACGT", np.uint8), LENGTHS["big"])
    for start in draw.integers(0, big.size, 60):
        big[start : start + draw.integers(1, 5_000)] |= 32
    for start in (0, 65_000, 65_536, 120_000, 131_071, 199_990):  # at the ends, at and across borders of chunks
        big[start : start + draw.integers(1, 2_000)] = ord("N")
    return {"big": big.tobytes(), "small": draw.choice(np.frombuffer(b"ACGTNacgt", np.uint8), 500).tobytes()}


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, letters: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("known")
    (folder / "x.fa").write_bytes(b"".join(b">%s\n%s\n" % (name.encode(), text) for name, text in letters.items()))
    options = BuildOptions(BlockSplits((0.5, 0.3, 0.2)), soft_mask=True)
    build_store([folder / "x.fa"], folder / "s", options, say=lambda line: None)
    return folder / "s"


@pytest.fixture(scope="session")
def shards_folder(store_folder: Path) -> Path:
    folder = store_folder.with_name("shards")
    write_shards(store_folder, folder, ShardOptions(window=10_001, megabytes=1), say=lambda line: None)
    return folder


@pytest.fixture
def store_copy(store_folder: Path, tmp_path: Path) -> Path:
    """A store that a test may damage."""
    return Path(shutil.copytree(store_folder, tmp_path / "copy"))


@pytest.fixture
def shards_copy(shards_folder: Path, tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    return Path(shutil.copytree(shards_folder, tmp_path / "copy"))
