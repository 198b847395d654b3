"""The tests' own processes: they start with everything imported, and end as others do."""

import sys
from pathlib import Path

import pytest

from tests.processes import run_cli, run_ranks


def imported(*names: str) -> list[str]:
    return [name for name in names if name in sys.modules]


def test_ranks_need_not_import() -> None:
    """The server passes over a preload that fails; all would work, each rank some seconds later."""
    names = ["deepspeed", "megatron.core.parallel_state", "torch._dynamo", "hyena_dist.train.loop", "pytest"]
    assert run_ranks(2, imported, *names) == [names] * 2


def fail(rank: int) -> None:
    import os

    assert int(os.environ["RANK"]) != rank, "here"


def test_the_rank_that_failed_is_named() -> None:
    with pytest.raises(AssertionError, match=r"rank 1 failed:\n(.|\n)*AssertionError: here"):
        run_ranks(2, fail, 1)


def test_the_command_line(tmp_path: Path) -> None:
    done = run_cli("train", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: hyena-dist train")
    done = run_cli("train", "run.yaml", cwd=tmp_path, env={"RANK": "1", "WORLD_SIZE": "2"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error on rank 1: cannot read the run file run.yaml")
