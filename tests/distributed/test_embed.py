"""Embeddings by several processes, and by processes that are killed: always the bytes that one process writes."""

import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import hyena_dist
from tests.processes import SERVER

TINY = Path(__file__).parents[1] / "golden" / "tiny"


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same_bytes(a: Path, b: Path) -> bool:
    names = files_below(a)
    return names == files_below(b) and filecmp.cmpfiles(a, b, names, shallow=False)[1:] == ([], [])


def run_job(rank: int, world_size: int, out: Path) -> None:
    """Do a share of a job of 48 parts, as a process under a launcher does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    texts = {str(i): "ACGTTGCATCA" * (12 + i % 7) for i in range(48)}
    hyena_dist.embed(TINY, texts, out=out, bin_size=25, strands="both", max_tokens_per_batch=1)


def start(out: Path, world_size: int) -> list[SERVER.Process]:  # type: ignore[name-defined]
    processes = [SERVER.Process(target=run_job, args=(rank, world_size, out)) for rank in range(world_size)]
    for process in processes:
        process.start()
    return processes


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_a_job_that_is_killed_at_random_ends_in_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    whole, killed = tmp_path / f"whole{suffix}", tmp_path / f"killed{suffix}"
    (process,) = start(whole, 1)
    process.join()
    draw = random.Random(0)
    kills = 0
    folder = killed.with_name(f"{killed.name}.partial")
    while not killed.exists():
        processes = start(killed, 1 + kills % 2)
        wanted = len(list(folder.glob("part-*"))) + draw.randrange(1, 12)  # of 48, at any machine's speed
        while len(list(folder.glob("part-*"))) < wanted and any(process.is_alive() for process in processes):
            time.sleep(draw.uniform(0, 0.01))
        kills += any(process.is_alive() for process in processes)
        for process in processes:
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
    (process,) = start(killed, 1)  # what a killed process has left is tidied up, or there is nothing to do
    process.join()
    assert process.exitcode == 0
    assert kills >= 2
    assert not killed.with_name(f"{killed.name}.partial").exists()
    assert same_bytes(whole, killed) if suffix == ".zarr" else whole.read_bytes() == killed.read_bytes()


def test_each_process_does_its_share_and_the_last_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "x.zarr"
    folder = tmp_path / "x.zarr.partial"
    for rank, parts in ((0, 24), (1, 0)):
        process = SERVER.Process(target=run_job, args=(rank, 2, out))
        process.start()
        process.join()
        assert len(list(folder.glob("part-*"))) == parts
    assert out.exists()


def test_two_ranks_of_torchrun_write_what_one_process_writes(tmp_path: Path) -> None:
    fasta = tmp_path / "in.fa"
    fasta.write_text("".join(f">s{i}\n{'ACGTTGCATCA' * (1 + i % 5)}\n" for i in range(8)))
    hyena_dist.embed(TINY, fasta, out=tmp_path / "one.zarr", bin_size=4, max_tokens_per_batch=1)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "hyena_dist"]
    options = ["--model", str(TINY), "--out", "two.zarr", "--bin-size", "4", "--max-tokens-per-batch", "1"]
    done = subprocess.run(
        [*launcher, "embed", str(fasta), *options], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert "wrote two.zarr" in done.stdout
    assert same_bytes(tmp_path / "one.zarr", tmp_path / "two.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.fa", "one.zarr", "two.zarr"]
