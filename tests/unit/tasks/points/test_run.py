"""Points as processes: killed and started again, none is repeated and none is lost."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.launch import RUN_VARIABLE
from hyena_dist.system.process_tree import kill, with_variable
from hyena_dist.tasks.points.plan import PointsConfig
from hyena_dist.tasks.points.run import TASK, run_points
from hyena_dist.tasks.task_files import read_task
from hyena_dist.train import outcome

TINY = ("model=scratch", "architecture={d_model: 8, n_layer: 1}", "task.epochs=2", "tracking.mlflow=false")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A user's own CSV of two columns: sequences with and without a motif."""
    bases = random.Random(0)
    rows = []
    for number in range(120):
        sequence = "".join(bases.choices("ACGT", k=40))
        rows.append(f"{sequence[:10]}GATTACAGAT{sequence[20:]},yes" if number % 2 else f"{sequence},no")
    file = tmp_path / "my.csv"
    file.write_text("sequence,label\n" + "\n".join(rows) + "\n")
    return file


@pytest.fixture
def seeds(table: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts the verb with two seeds; what it leaves behind is killed."""
    command = [sys.executable, "-m", "hyena_dist", "finetune", str(table), *TINY, "--seeds", "2"]
    command += [f"output_dir={table.parent}", "train.save_interval=2"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    yield start
    for seed in range(2):
        kill(with_variable(RUN_VARIABLE, str(table.parent / "my" / f"seed-{seed}")))


def test_killed_and_started_again(table: Path, seeds: Callable[[], subprocess.Popen[str]]) -> None:
    folder = table.parent / "my"
    first = seeds()
    while not (folder / "seed-1").exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    kept = (folder / "seed-0/outcome.json").stat().st_mtime_ns
    said = seeds().communicate()[0]
    assert "1 of 2 points are finished already" in said
    assert re.search(r"2/2 seed-1: finished in", said), said
    assert (folder / "seed-0/outcome.json").stat().st_mtime_ns == kept
    for seed in range(2):
        ended = outcome.read(folder / f"seed-{seed}")
        assert ended is not None
        assert ended.outcome == "finished"
        assert f"seed: {seed}\n" in (folder / f"seed-{seed}/run.yaml").read_text()
    assert "| as the task says | 2 |" in said
    assert (folder / "points.csv").read_text().count("\n") == 3


def test_what_cannot_work_is_told_before_anything_runs(table: Path) -> None:
    tree = read_task(str(table), TINY)
    for sweep, said in (
        ({"task.pooling": ("mean", "median")}, "task.pooling = 'median' is not valid"),
        ({"model": ("nowhere",)}, "there is no model nowhere"),
        ({"optimiser.lr": (1e-3,)}, "unknown key 'optimiser'"),
    ):
        with pytest.raises(UserError, match=said):
            run_points(tree, table.parent / "my", PointsConfig(sweep=sweep))
    assert not (table.parent / "my").exists()


def test_points_of_another_task_are_left_alone(table: Path) -> None:
    folder = table.parent / "my"
    folder.mkdir()
    (folder / TASK).write_text("name: my\n")
    with pytest.raises(UserError, match="is another task than this one"):
        run_points(read_task(str(table), TINY), folder, PointsConfig(seeds=(0,)))


def test_under_a_launcher(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="start them without a launcher"):
        run_points(read_task(str(table), TINY), table.parent / "my", PointsConfig(seeds=(0,)))
