"""Shards hold what their store holds, are readable by plain webdataset, and appear whole or not at all."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from data_prep.shards import windows_in
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.store.ranges import Ranges
from hyena_dist.data.store.tar import sample_key
from hyena_dist.errors import UserError

WINDOW = 301


@pytest.fixture
def store(tmp_path: Path, genome: Path, run: Callable[..., str]) -> Path:
    """A store with held-out regions in the middle, and bases in no split, which training may read at great lengths."""
    rows = ["chr1 500 1400 train", "chr1 1500 1900 valid", "chr1 2000 2600 test", "chr2 900 1000 valid"]
    (tmp_path / "splits.bed").write_text("".join(row.replace(" ", "\t") + "\n" for row in rows))
    run("build", genome, "--out", tmp_path / "store", "--bed", tmp_path / "splits.bed")
    return tmp_path / "store"


@pytest.fixture
def shards(tmp_path: Path, store: Path, run: Callable[..., str]) -> Path:
    run("shards", store, "--out", tmp_path / "site" / "shards", "--window", WINDOW)
    return tmp_path / "site" / "shards"


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def bytes_of(folder: Path) -> dict[str, Any]:
    """Return all files of a folder of shards, without what differs from run to run."""
    content: dict[str, Any] = {file.name: file.read_bytes() for file in folder.rglob("*.*")}
    manifest = json.loads(content["manifest.json"])
    content["manifest.json"] = {key: value for key, value in manifest.items() if key not in ("command", "created")}
    return content


@given(st.integers(0, 50), st.integers(1, 200), st.integers(2, 60))
def test_tiles(start: int, length: int, window: int) -> None:
    region = Interval("c", start, start + length)
    ranges = windows_in(Ranges(np.array([region.start]), np.array([region.end])), window)
    tiles = [Interval(region.contig, *map(int, edges)) for edges in zip(*ranges, strict=True)]
    assert (tiles[0].start, tiles[-1].end) == (region.start, region.end)
    assert all(one.end == other.start + 1 for one, other in pairwise(tiles))
    assert all(each.end - each.start == window for each in tiles[:-1])
    assert length == 1 or 2 <= tiles[-1].end - tiles[-1].start <= window


@pytest.mark.parametrize("how", ["path", "pipe", "http"])
def test_plain_webdataset_reads_all_that_splits_and_training_may_read(
    store: Path, site: Any, shards: Path, how: str
) -> None:
    base = {"path": str(shards), "pipe": f"pipe:cat {shards}", "http": f"{site.url}/shards"}[how]
    opened = GenomeStore.open(store)
    seen = {split: {name: np.zeros(length, int) for name, length in opened.contigs.items()} for split in opened.splits}
    urls = [f"{base}/{shard['path']}" for shard in manifest_of(shards)["shards"]]
    for sample in webdataset.WebDataset(urls, shardshuffle=False, handler=webdataset.reraise_exception).decode():
        about = sample["json"]
        where = Interval(about["contig"], about["start"], about["end"])
        assert sample["tokens.npy"].dtype == np.uint8
        assert np.array_equal(sample["tokens.npy"], opened.read(*where))
        seen[about["split"]][where.contig][where.start : where.end] += 1
    free = opened.free
    assert free != opened.splits["train"], "the test has no bases outside of the splits"
    for split, regions in {**opened.splits, "train": free}.items():
        for name, times in seen[split].items():
            expected = np.zeros(times.size, bool)
            for region in regions:
                expected[region.start : region.end] |= region.contig == name
            assert np.array_equal(times > 0, expected), (split, name)


def test_index_and_manifest_describe_the_tars(store: Path, shards: Path) -> None:
    opened, manifest, source = GenomeStore.open(shards), manifest_of(shards), GenomeStore.open(store)
    samples = opened.index["samples"]
    number = dict.fromkeys(opened.splits, 0)
    for tar_number, shard in enumerate(manifest["shards"]):
        content = (shards / shard["path"]).read_bytes()
        assert len(content) == shard["bytes"]
        rows = samples[samples["tar"] == tar_number].tolist()
        assert len(rows) == shard["samples"]
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            names = tar.getnames()
        keys = [sample_key(shard["split"], number[shard["split"]] + i) for i in range(len(rows))]
        number[shard["split"]] += len(rows)
        assert names == [f"{key}{end}" for key in keys for end in (".tokens.npy", ".json")]
        for _tar, crc, contig, start, end, offset in rows:
            tokens = content[offset : offset + end - start]
            assert google_crc32c.value(tokens) == crc
            assert tokens == source.read(contig, start, end).tobytes()
    described = manifest_of(store)
    for key in ("tokenizer", "sources", "species", "contigs", "bases", "splits", "fingerprint"):
        assert manifest[key] == described[key]
    assert set(source.index.names) - set(opened.index.names) == {"place", *({"soft_mask"} & set(source.index.names))}
    assert manifest["options"] == {**described["options"], "shard_window": WINDOW, "shard_megabytes": 256}
    assert "zarr" not in manifest


def test_tars_have_the_size_that_was_asked_for(tmp_path: Path, run: Callable[..., str]) -> None:
    """Most contigs are far shorter than a window."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 3_000_000).tobytes()
    contigs = [b">c%d\n%s\n" % (number, letters[number * 10_000 : (number + 1) * 10_000]) for number in range(300)]
    (tmp_path / "many.fa").write_bytes(b"".join(contigs))
    run("build", tmp_path / "many.fa", "--out", tmp_path / "many")
    run("shards", tmp_path / "many", "--out", tmp_path / "s", "--megabytes", 1, "--window", 100_000)
    sizes = [shard["bytes"] for shard in manifest_of(tmp_path / "s")["shards"] if shard["split"] == "train"]
    assert len(sizes) >= 3
    assert all(0.95 * 2**20 < size < 1.02 * 2**20 for size in sizes[:-1])
    samples = sum(shard["samples"] for shard in manifest_of(tmp_path / "s")["shards"])
    assert GenomeStore.open(tmp_path / "s").index["samples"].size == samples


def test_verified(store: Path, shards: Path, run: Callable[..., str]) -> None:
    assert "verified" in run("verify", shards, "--against", store)


def test_folder_is_self_contained_and_equal_to_its_store(tmp_path: Path, store: Path, shards: Path) -> None:
    moved = Path(shutil.move(shards, tmp_path / "moved"))
    one, other = GenomeStore.open(store), GenomeStore.open(moved)
    regions = one.free + one.splits["valid"] + one.splits["test"]
    read = {region: one.read(*region) for region in regions}
    shutil.rmtree(store)
    assert other.fingerprint == one.fingerprint
    assert all(np.array_equal(other.read(*region), tokens) for region, tokens in read.items())


def test_shards_can_be_made_of_shards(tmp_path: Path, store: Path, shards: Path, run: Callable[..., str]) -> None:
    run("shards", store, "--out", tmp_path / "a", "--window", 101)
    run("shards", shards, "--out", tmp_path / "b", "--window", 101)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


@pytest.mark.parametrize("scheme", ["http", "pipe"])
def test_remote_shards_are_read_through_faults(
    tmp_path: Path, store: Path, site: Any, shards: Path, scheme: str
) -> None:
    site.faults["shards/manifest.json"] = [500]
    site.faults["shards/train-000000.tar"] = ["truncate"]
    location = f"{site.url}/shards" if scheme == "http" else f"pipe:cat {shards}/{{}}"
    remote, local = GenomeStore.open(location, tmp_path / "cache"), GenomeStore.open(store)
    for region in [*local.free, *local.splits["valid"]]:
        assert np.array_equal(remote.read(*region), local.read(*region))
    if scheme == "http":
        assert [path for path, _range in site.asked].count("shards/train-000000.tar") == 2
        shutil.rmtree(site.folder)
        again = GenomeStore.__new__(GenomeStore)
        again.__setstate__(remote.__getstate__())  # as a worker process gets it
        assert np.array_equal(again.read("chr1", 0, 1000), local.read("chr1", 0, 1000))


def test_remote_shards_that_are_not_there(tmp_path: Path, site: Any) -> None:
    with pytest.raises(UserError, match=r"shards/manifest\.json cannot be fetched \(HTTP 404"):
        GenomeStore.open(f"{site.url}/shards", tmp_path / "cache")
    assert len(site.asked) == 1


def test_same_store_and_options_same_bytes(tmp_path: Path, store: Path, run: Callable[..., str]) -> None:
    for name in ("a", "b"):
        run("shards", store, "--out", tmp_path / name, "--window", 101)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert not list(tmp_path.glob("*.partial"))


def test_kept_if_there_already(tmp_path: Path, store: Path, run: Callable[..., str]) -> None:
    run("shards", store, "--out", tmp_path / "s")
    before = (tmp_path / "s/manifest.json").stat().st_mtime_ns
    assert "kept" in run("shards", store, "--out", tmp_path / "s")
    assert (tmp_path / "s/manifest.json").stat().st_mtime_ns == before


def test_what_is_there_is_not_replaced_unasked(
    tmp_path: Path, store: Path, genome: Path, run: Callable[..., str], refuse: Callable[..., str]
) -> None:
    run("shards", store, "--out", tmp_path / "s")
    run("build", genome, "--out", tmp_path / "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    assert "shard_window 1048577 not 99" in refuse("shards", store, "--out", tmp_path / "s", "--window", 99)
    assert "splits" in refuse("shards", tmp_path / "other", "--out", tmp_path / "s")
    assert "holds a store" in refuse("shards", store, "--out", tmp_path / "other")
    assert "is the store itself" in refuse("shards", store, "--out", store, "--overwrite")
    assert "left as it is" in refuse("shards", store, "--out", tmp_path / "full", "--overwrite")
    tar = tmp_path / "s" / "train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert "missing or truncated" in refuse("shards", store, "--out", tmp_path / "s")
    run("shards", store, "--out", tmp_path / "s", "--window", 99, "--overwrite")
    assert manifest_of(tmp_path / "s")["options"]["shard_window"] == 99


def test_impossible_options(tmp_path: Path, store: Path, refuse: Callable[..., str]) -> None:
    assert "no next token" in refuse("shards", store, "--out", tmp_path / "s", "--window", 1)
    assert "too small" in refuse("shards", store, "--out", tmp_path / "s", "--megabytes", 0)
    assert "is not a hyena-dist store" in refuse("shards", tmp_path, "--out", tmp_path / "s")


@pytest.fixture
def large_store(tmp_path: Path, run: Callable[..., str]) -> Path:
    """A store for several tars of 1 MiB, which take a second or two to write with small windows."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGTN", np.uint8), 150_000)
    (tmp_path / "large.fa").write_bytes(b">chr1\n" + letters.tobytes() + b"\n")
    run("build", tmp_path / "large.fa", "--out", tmp_path / "large")
    return tmp_path / "large"


def _command(store: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "data_prep", "shards", str(store), "--out", str(out), "--window", "64"]
    return [*words, "--megabytes", "1"]


def _start(store: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(_command(store, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, and wait until its worker processes have noticed, which still finish what they are at."""
    process.kill()
    process.communicate()  # its output ends with the last process that holds it


def test_killed_runs_leave_nothing_that_looks_complete(
    tmp_path: Path, large_store: Path, run: Callable[..., str]
) -> None:
    run(*_command(large_store, tmp_path / "whole")[3:])
    expected = bytes_of(tmp_path / "whole")
    out = tmp_path / "out"
    partial = tmp_path / "out.partial"
    delays = np.random.default_rng(1).uniform(0, 0.4, 5)
    for delay in delays:
        process = _start(large_store, out)
        while not partial.exists() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
        _kill(process)
        if out.exists():
            assert bytes_of(out) == expected
            shutil.rmtree(out)
        with pytest.raises(UserError):
            GenomeStore.open(partial)
    done = {file.name[:-5]: 0 for file in (partial / "tars").glob("*.json")}
    done = {name: (partial / "store" / name).stat().st_mtime_ns for name in done}
    said = run(*_command(large_store, out)[3:])
    assert bytes_of(out) == expected
    assert not partial.exists()
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in done.items())
    assert (f"keeping {len(done)} of" in said) == bool(done)


def test_unfinished_work_on_something_else(
    tmp_path: Path, large_store: Path, store: Path, run: Callable[..., str], refuse: Callable[..., str]
) -> None:
    process = _start(large_store, tmp_path / "out")
    while not list((tmp_path / "out.partial").glob("tars/*.json")):
        time.sleep(0.002)
    _kill(process)
    assert "discard it with --overwrite" in refuse("shards", store, "--out", tmp_path / "out")
    run("shards", store, "--out", tmp_path / "out", "--window", 101, "--overwrite")
    run("shards", store, "--out", tmp_path / "whole", "--window", 101)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_full_disk(tmp_path: Path, large_store: Path, run: Callable[..., str]) -> None:
    run(*_command(large_store, tmp_path / "whole")[3:])
    limited = ["bash", "-c", 'ulimit -f 600; exec "$@"', "bash", *_command(large_store, tmp_path / "out")]  # 600 KiB
    result = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "free some space" in result.stderr
    assert not (tmp_path / "out").exists()
    run(*_command(large_store, tmp_path / "out")[3:])
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_two_at_once(tmp_path: Path, large_store: Path, run: Callable[..., str]) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    process = subprocess.Popen(_command(large_store, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (partial / "store").exists():
        time.sleep(0.002)
    second = subprocess.run(_command(large_store, out), capture_output=True, text=True, check=False)
    assert process.wait() == 0
    assert second.returncode == 0 or "another build is at work" in second.stderr
    run(*_command(large_store, tmp_path / "whole")[3:])
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
