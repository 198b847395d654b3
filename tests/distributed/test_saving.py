"""Checkpoints that cannot be written, or were damaged since."""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.models.published import load_published
from hyena_dist.parallel.world import join_world
from hyena_dist.train.checkpoint.format import check, list_checkpoints, newest_intact
from hyena_dist.train.run import train
from tests.distributed.conftest import Calm
from tests.distributed.training import curve, train_here
from tests.processes import Ranks, run_ranks

SHORT = {
    "curriculum": [{"seq_length": 32, "train_iters": 4}],
    "global_batch_size": 4,
    "log_interval": 1,
    "save_interval": 2,
}
KILLED = SHORT | {"curriculum": [{"seq_length": 32, "train_iters": 6}]}


def train_on_full_disk(config: RunConfig, full_rank: int, size: int) -> str:
    """Run train_here while no file of `full_rank` can grow beyond `size` bytes, as on a disk that fills up."""
    import os

    if int(os.environ["RANK"]) == full_rank:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        train_here(config)
    except UserError as error:
        return str(error)
    return "finished"


@pytest.mark.parametrize(
    ("zero", "ranks", "full_rank", "size"),
    # model.safetensors has 36 kB and the moments twice that, over all ranks.
    [
        ("zero1", 2, 0, 20_000),
        ("zero1", 2, 1, 20_000),
        ("zero3", 2, 1, 20_000),
        ("zero0", 2, 0, 20_000),
        ("zero1", 4, 0, 30_000),
    ],
)
def test_disk_full(
    zero: str, ranks: int, full_rank: int, size: int, make_config: Callable[..., RunConfig], calm: Calm
) -> None:
    same = {"train": SHORT, "parallel": {"zero": zero}}
    short, whole = make_config(**same), calm(ranks, **same)

    # Up to step 2 the disk has room. The same run, whose later checkpoints do not fit, must leave that one alone.
    folder = Path(shutil.copytree(whole, short.run_dir))
    for path in list_checkpoints(folder / "checkpoints")[1:]:
        (path / "files.json").unlink()
    before = {p: p.read_bytes() for p in (folder / "checkpoints/step-00000002").rglob("*") if p.is_file()}

    messages = run_ranks(ranks, train_on_full_disk, short, full_rank, size)
    for message in messages:
        assert "cannot save the checkpoint of step 4" in message
        assert "step-00000002" in message
        assert "--resume auto" in message
    assert before == {p: p.read_bytes() for p in (folder / "checkpoints/step-00000002").rglob("*") if p.is_file()}
    assert not list((folder / "checkpoints").glob(".*partial"))

    run_ranks(ranks, train_here, short)
    assert curve(folder) == curve(whole)


def train_until(config: RunConfig, rank: int, reached: str) -> None:
    """Run train_here and kill `rank` when it is about to open or rename a path that ends in `reached`."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in {"open", "os.rename"} and str(arguments[0]).endswith(reached):
            os.kill(os.getpid(), signal.SIGKILL)

    if int(os.environ["RANK"]) == rank:
        sys.addaudithook(hook)
    train_here(config)


@pytest.mark.parametrize(
    ("rank", "reached"),
    [
        (0, ".step-00000004.partial/model.safetensors"),
        (1, ".step-00000004.partial/optimizer-00002-of-00002.safetensors"),
        (0, ".step-00000004.partial/files.json"),
        (0, ".step-00000004.partial"),
    ],
)
def test_killed_while_saving(rank: int, reached: str, make_config: Callable[..., RunConfig], calm: Calm) -> None:
    """The other rank ends by itself, the checkpoint before is untouched, and the run goes on as if nothing had been."""
    config = make_config(train=KILLED)
    ranks = Ranks(2, train_until, config, rank, reached)
    for process in ranks.processes:
        process.join(60)
    assert ranks.processes[rank].exitcode == -signal.SIGKILL
    assert ranks.processes[1 - rank].exitcode is not None
    folder = config.run_dir / "checkpoints"
    assert {p.name for p in folder.iterdir()} == {"step-00000002", ".step-00000004.partial"}
    check(folder / "step-00000002")

    run_ranks(2, train_here, config)
    assert curve(config.run_dir) == curve(calm(2, train=KILLED))
    assert {p.name for p in folder.iterdir()} == {"step-00000004", "step-00000006"}


def train_again(config: RunConfig, resume: int) -> None:
    train(config, join_world(timeout_s=60), resume=resume)


def test_back_to_a_step(make_config: Callable[..., RunConfig], calm: Calm) -> None:
    """A run that goes back computes the same again; what it had come to since is set aside, and every N-th stays."""
    config = make_config(train=KILLED | {"save_retain_interval": 2, "keep_last": 1})
    run_ranks(2, train_here, config)
    folder = config.run_dir / "checkpoints"
    assert {p.name for p in folder.iterdir()} == {f"step-0000000{step}" for step in (2, 4, 6)}
    run_ranks(2, train_again, config, 2)
    aside = {"step-00000004.aside-1", "step-00000006.aside-1"}
    assert {p.name for p in folder.iterdir()} == {"step-00000002", "step-00000004", "step-00000006", *aside}
    assert curve(config.run_dir) == curve(calm(2, train=KILLED))
    again, before = (folder / name / "model.safetensors" for name in ("step-00000006", "step-00000006.aside-1"))
    assert again.read_bytes() == before.read_bytes()


def test_corrupt_checkpoint_is_passed_over(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = make_config(train=SHORT)
    run_ranks(1, train_here, config)
    whole = curve(config.run_dir)
    newest = config.run_dir / "checkpoints/step-00000004"
    weights = newest / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)

    notes: list[str] = []
    found = newest_intact(config.run_dir / "checkpoints", notes.append)
    assert found is not None
    assert found.name == "step-00000002"
    assert len(notes) == 1
    assert "model.safetensors" in notes[0]
    with pytest.raises(UserError, match=r"model\.safetensors"):
        check(newest)

    run_ranks(1, train_here, config)
    assert curve(config.run_dir) == whole
    check(newest)


def test_checkpoint_is_a_published_folder(make_config: Callable[..., RunConfig]) -> None:
    """A checkpoint is one that load_published reads, with the modulation shift that it was trained with."""
    config = make_config(train=SHORT, model={"d_model": 16, "n_layer": 1, "l_max": 128, "modulation_shift": 0.01})
    run_ranks(1, train_here, config)
    model = load_published(config.run_dir / "checkpoints/step-00000004")
    assert model.config.model_dump() == config.model.model_dump() | {"d_inner": 64}
