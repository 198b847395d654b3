"""`srun python -m hyena_dist train` on a real SLURM cluster of two nodes, against the same run on one process."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hyena_dist.config import RunConfig
from hyena_dist.config_file import dump_config
from tests.distributed.training import curve, train_here
from tests.processes import run_ranks

SANDBOX = Path(__file__).parents[3] / "shared/slurm/slurm-sandbox"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not SANDBOX.exists(), reason=f"no SLURM to start: {SANDBOX} is absent"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cluster of two nodes; gives the environment in which its commands work."""
    env = os.environ | {"SLURM_SANDBOX_DIR": str(tmp_path_factory.mktemp("slurm"))}
    up = subprocess.run([SANDBOX, "up", "--nodes", "2", "--cpus", "4"], env=env, capture_output=True, text=True)
    assert up.returncode == 0, up.stderr
    exports = subprocess.run([SANDBOX, "env"], env=env, capture_output=True, text=True, check=True).stdout
    shell = subprocess.run(["bash", "-c", f"{exports}\nenv -0"], env=env, capture_output=True, text=True, check=True)
    try:
        yield dict(line.split("=", 1) for line in shell.stdout.split("\0") if "=" in line)
    finally:
        subprocess.run([SANDBOX, "down", "--purge"], env=env, capture_output=True)


def test_two_nodes(slurm: dict[str, str], make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    train = {
        "curriculum": [{"seq_length": 32, "train_iters": 3}, {"seq_length": 64, "train_iters": 3}],
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "log_interval": 1,
    }
    (tmp_path / "run.yaml").write_text(dump_config(make_config(train=train)))
    script = f"""#!/bin/bash
#SBATCH --job-name=train --nodes=2 --ntasks-per-node=1 --time=5 --output=job.out
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu
srun {sys.executable} -m hyena_dist train run.yaml name=srun
"""
    (tmp_path / "job.sbatch").write_text(script)
    sbatch = ["sbatch", "--parsable", "job.sbatch"]
    job = subprocess.run(sbatch, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=True).stdout.strip()
    waited = subprocess.run([SANDBOX, "wait", job, "150"], env=slurm, capture_output=True, text=True)
    output = (tmp_path / "job.out").read_text() if (tmp_path / "job.out").exists() else ""
    assert waited.returncode == 0, waited.stdout + waited.stderr + output

    run_ranks(1, train_here, make_config(train=train, name="alone"))
    for a, b in zip(curve(tmp_path / "alone"), curve(tmp_path / "srun"), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-7)
