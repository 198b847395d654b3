"""Commands look again at the place of their output after they waited or worked, and keep what came to be there."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_prep.build import build_store
from data_prep.partial import PartialFolder
from data_prep.shards import ShardOptions, write_shards
from hyena_dist.errors import UserError

Run = Callable[..., str]
Content = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def store(tmp_path: Path, genome: Path, run: Run) -> Path:
    run("build", genome, "--out", tmp_path / "store")
    return tmp_path / "store"


def test_a_store_that_came_to_be_while_the_build_waited_for_the_lock_is_kept(
    tmp_path: Path, genome: Path, store: Path, content: Content
) -> None:
    """The lock is another build's, which ends within the wait."""
    out, other, before = tmp_path / "s", tmp_path / "other.fa", content(store)
    other.write_text(">o\nACGT\n")
    with ThreadPoolExecutor() as pool:
        with PartialFolder(out).locked():
            replacing = pool.submit(build_store, [other], out, say=str)
            same = pool.submit(build_store, [genome], out, say=str)
            time.sleep(0.5)
            store.rename(out)
        with pytest.raises(UserError, match=r"holds a store built from other sequences \(genome\.fa\); choose another"):
            replacing.result()
        assert not same.result(), "it was built again"
    assert content(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "other.fa", "s"]


def test_shards_that_came_to_be_while_the_command_waited_for_the_lock_are_kept(
    tmp_path: Path, store: Path, run: Run, content: Content
) -> None:
    first, out = tmp_path / "first", tmp_path / "s"
    run("shards", store, "--out", first, "--window", 300)
    before = content(first)
    with ThreadPoolExecutor() as pool:
        with PartialFolder(out).locked():
            replacing = pool.submit(write_shards, store, out, ShardOptions(window=99), say=str)
            same = pool.submit(write_shards, store, out, ShardOptions(window=300), say=str)
            time.sleep(0.5)
            first.rename(out)
        with pytest.raises(UserError, match=r"holds shards made with shard_window 300 not 99; choose another"):
            replacing.result()
        assert not same.result(), "they were written again"
    assert content(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "s", "store"]


def test_what_came_to_be_during_the_build_is_kept(tmp_path: Path, genome: Path) -> None:
    """A folder appears while the sequences are read, after all that is checked before the work."""
    out = tmp_path / "s"

    def say(line: str) -> None:
        if line.startswith("2 contigs"):
            out.mkdir()
            (out / "chapter.txt").write_text("years of work")

    with pytest.raises(UserError, match="left as it is"):
        build_store([genome], out, say=say)
    assert (out / "chapter.txt").read_text() == "years of work"
    (out / "chapter.txt").rename(tmp_path / "chapter.txt")
    build_store([genome], out, say=str)  # goes on with the work, which was kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chapter.txt", "genome.fa", "s"]


def test_no_output_option_takes_a_url(
    tmp_path: Path, genome: Path, store: Path, refuse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a folder "s3:" would be made
    for words in (
        ["build", genome, "--out", "s3://bucket/x"],
        ["shards", store, "--out", "s3://bucket/x"],
        ["download", "hg38", "--out", "s3://bucket/x", "--source", tmp_path],
        ["export-fasta", store, "--out", "s3://bucket/x"],
        ["stats", store, "--csv", "s3://bucket/x"],
        ["stats", store, "--plot", "s3://bucket/x.png"],
        ["leaks", store, "--csv", "s3://bucket/x"],
    ):
        assert "s3://bucket/x" in (message := refuse(*words))
        assert "is a URL, and output is written to this machine" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genome.fa", "store"]
