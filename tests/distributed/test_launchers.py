"""A run file gives the same losses by every launcher of this machine, as a user types it."""

import csv
import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hyena_dist.config.file import dump_config
from hyena_dist.config.run import RunConfig
from hyena_dist.profile.phases import STEP_PHASES
from hyena_dist.system.hosts import free_port
from hyena_dist.tracking import read_metrics
from tests.distributed.training import curve

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

    # 2 tensor x 2 context ranks, from the YAML alone but for the layout; it says what it sends and what takes its time.
    sizes = [f"parallel.{name}_parallel_size=2" for name in ("tensor_model", "context")]
    launcher = [word.replace("2", "4") for word in LAUNCHERS["deepspeed"]]
    profile = ["--profile", "comm,trace", "--profile-steps", "1-2"]
    run([*launcher, *ARGUMENTS, *profile, "name=grid", "parallel.sequence_parallel=true", *sizes], tmp_path)
    for a, b in zip(curves["alone"], curve(tmp_path / "grid"), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
    with open(tmp_path / "grid/communication.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"1", "2", "3", "4"}
    assert {row["group"] for row in rows} == {"tensor", "context", "data_context", "world"}
    for row in rows:
        assert float(row["bytes"]) == pytest.approx(float(row["planned_bytes"]), rel=0.01), row
        assert float(row["calls"]) > 0

    # Two steps of each stage on every rank: each phase is a span of its own, and forward holds the model's operators.
    traces = sorted((tmp_path / "grid/trace").iterdir())
    assert [file.name for file in traces] == [f"step-{s:06}-rank-{r}.json.gz" for s in (1, 3) for r in range(4)]
    for file in traces:
        with gzip.open(file, "rt") as text:
            events = [e for e in json.load(text)["traceEvents"] if e.get("ph") == "X"]
        spans = [e for e in events if e["cat"] == "user_annotation"]
        assert Counter(e["name"] for e in spans)["optimizer"] == 2
        assert {"data", "forward", "backward", "reduce", "optimizer", "other"} <= {e["name"] for e in spans}
        forward = next(e for e in spans if e["name"] == "forward")
        within = {e["name"] for e in events if forward["ts"] <= e["ts"] < forward["ts"] + forward["dur"]}
        assert {"c10d::alltoall_base_", "aten::_fft_r2c"} <= within
    metrics = read_metrics(tmp_path / "grid/metrics.jsonl")
    for row in metrics:
        if "train/loss" in row:
            parts = [row[f"time/{phase}_s"] for phase in STEP_PHASES]
            assert sum(parts) == pytest.approx(row["time/step_s"])
            assert min(row["time/forward_s"], row["time/backward_s"], row["time/optimizer_s"]) > 0


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
