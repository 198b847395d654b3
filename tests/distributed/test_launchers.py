"""The same run file by every launcher of this machine, as a user types it, gives the same losses."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from tests.distributed.training import curve
from tests.processes import free_port

pytestmark = pytest.mark.launcher

BIN = Path(sys.executable).parent
ARGUMENTS = ["train", "run.yaml"]
LAUNCHERS = {
    "deepspeed": ["deepspeed", "--num_accelerators", "2", "--master_port", "PORT", "--module", "hyena_dist"],
    "torchrun": ["torchrun", "--nproc_per_node", "2", "--master_port", "PORT", "-m", "hyena_dist"],
}
TRAIN = {
    "curriculum": [{"seq_length": 32, "train_iters": 2}, {"seq_length": 64, "train_iters": 2}],
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "log_interval": 1,
}


def run(command: list[str], folder: Path) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    program, *rest = [str(free_port()) if word == "PORT" else word for word in command]
    done = subprocess.run([str(BIN / program), *rest], cwd=folder, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


def test_same_losses(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(dump_config(make_config(train=TRAIN)))
    commands = {"alone": ["hyena-dist"]} | LAUNCHERS
    for name, launcher in commands.items():
        run([*launcher, *ARGUMENTS, f"name={name}"], tmp_path)
    curves = {name: curve(tmp_path / name) for name in commands}
    assert curves["deepspeed"] == curves["torchrun"]
    for a, b in zip(curves["alone"], curves["torchrun"], strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)

    # 2 tensor x 2 context ranks, from the YAML alone but for the layout; it says what it sends.
    sizes = [f"parallel.{name}_parallel_size=2" for name in ("tensor_model", "context")]
    launcher = [word.replace("2", "4") for word in LAUNCHERS["deepspeed"]]
    run([*launcher, *ARGUMENTS, "--profile", "comm", "name=grid", "parallel.sequence_parallel=true", *sizes], tmp_path)
    for a, b in zip(curves["alone"], curve(tmp_path / "grid"), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    with open(tmp_path / "grid/communication.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"1", "2", "3", "4"}
    assert {row["group"] for row in rows} == {"tensor", "context", "data_context", "world"}
    for row in rows:
        assert float(row["bytes"]) == pytest.approx(float(row["planned_bytes"]), rel=0.01), row
        assert float(row["calls"]) > 0


def test_mistake_under_a_launcher(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """One sentence on the terminal, not one per rank, and the launcher reports failure."""
    (tmp_path / "run.yaml").write_text(dump_config(make_config(train=TRAIN)))
    command = [str(BIN / "deepspeed"), "-q", "--num_accelerators", "2", "--master_port", str(free_port())]
    command += ["--module", "hyena_dist", *ARGUMENTS, "train.micro_batch_size=3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert output.count("global_batch_size 4 is not a multiple of micro_batch_size 3 x data_parallel_size 2 = 6") == 1
    assert "try 6" in output
    assert "Traceback" not in output
